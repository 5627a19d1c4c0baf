package ledgertest

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
)

// Imports is a Security Hub whose imports are steps, like the operations of a [Table].
type Imports struct {
	importer.API
	// Step runs before and after each import takes effect. Its error becomes the import's.
	Step func(ctx context.Context, operation string, done bool) error
}

// BatchImportFindings imports between two steps.
func (i Imports) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, o ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	if err := i.Step(ctx, "Import", false); err != nil {
		return nil, err
	}
	out, err := i.API.BatchImportFindings(context.WithoutCancel(ctx), in, o...)
	if crash := i.Step(ctx, "Import", true); crash != nil {
		return nil, crash
	}
	return out, err
}
