package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
)

// newLedger makes the table that remembers findings.
func newLedger(scope constructs.Construct, p ForwarderProps) awsdynamodb.Table {
	props := &awsdynamodb.TableProps{
		PartitionKey:        attribute(defender.LedgerPartitionKey, awsdynamodb.AttributeType_STRING),
		SortKey:             attribute(defender.LedgerSortKey, awsdynamodb.AttributeType_STRING),
		BillingMode:         awsdynamodb.BillingMode_PAY_PER_REQUEST,
		TimeToLiveAttribute: new(defender.LedgerExpiry),
		Encryption:          awsdynamodb.TableEncryption_AWS_MANAGED,
		RemovalPolicy:       or(p.LedgerRemovalPolicy, awscdk.RemovalPolicy_DESTROY),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: new(p.PointInTimeRecovery),
		},
	}
	if p.EncryptionKey != nil {
		props.Encryption, props.EncryptionKey = awsdynamodb.TableEncryption_CUSTOMER_MANAGED, p.EncryptionKey
	}
	table := awsdynamodb.NewTable(scope, new("Ledger"), props)
	table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:      new(defender.LedgerRefreshIndex),
		PartitionKey:   attribute(defender.LedgerRefreshShard, awsdynamodb.AttributeType_STRING),
		SortKey:        attribute(defender.LedgerRefreshAt, awsdynamodb.AttributeType_NUMBER),
		ProjectionType: awsdynamodb.ProjectionType_ALL,
	})
	if !p.PointInTimeRecovery {
		suppressNag(table, "AWS::DynamoDB::Table", nagSuppression{
			rule:   "AwsSolutions-DDB3",
			reason: "The ledger is made of events: without it findings are imported again. PointInTimeRecovery turns backups on.",
		})
	}
	return table
}

func attribute(name string, kind awsdynamodb.AttributeType) *awsdynamodb.Attribute {
	return &awsdynamodb.Attribute{Name: new(name), Type: kind}
}
