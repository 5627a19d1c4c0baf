package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// newLedger creates the ledger table.
func newLedger(scope constructs.Construct, p ForwarderProps) awsdynamodb.Table {
	table := newTable(scope, "Ledger", tableOptions{
		partition: contract.LedgerPartitionKey, sort: contract.LedgerSortKey, expiry: contract.LedgerExpiry,
		key: p.EncryptionKey, recovery: p.PointInTimeRecovery, removal: p.LedgerRemovalPolicy,
		without: "The ledger can be rebuilt from new events: without it findings are imported again. PointInTimeRecovery turns backups on.",
	})
	table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:      new(contract.LedgerRefreshIndex),
		PartitionKey:   attribute(contract.LedgerRefreshShard, awsdynamodb.AttributeType_STRING),
		SortKey:        attribute(contract.LedgerRefreshAt, awsdynamodb.AttributeType_NUMBER),
		ProjectionType: awsdynamodb.ProjectionType_ALL,
	})
	return table
}

// tableOptions are the differences between the tables of this package.
type tableOptions struct {
	// partition and sort are the keys, both strings, expiry is the TTL attribute.
	partition, sort, expiry string
	key                     awskms.IKey
	recovery                bool
	removal                 awscdk.RemovalPolicy
	// without says what happens if the table, which has no backups by default, is lost.
	without string
}

// newTable creates an encrypted on-demand table. When idle, it costs only its storage.
func newTable(scope constructs.Construct, id string, o tableOptions) awsdynamodb.Table {
	props := &awsdynamodb.TableProps{
		PartitionKey:        attribute(o.partition, awsdynamodb.AttributeType_STRING),
		SortKey:             attribute(o.sort, awsdynamodb.AttributeType_STRING),
		BillingMode:         awsdynamodb.BillingMode_PAY_PER_REQUEST,
		TimeToLiveAttribute: new(o.expiry),
		Encryption:          awsdynamodb.TableEncryption_AWS_MANAGED,
		RemovalPolicy:       or(o.removal, awscdk.RemovalPolicy_DESTROY),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{
			PointInTimeRecoveryEnabled: new(o.recovery),
		},
	}
	if o.key != nil {
		props.Encryption, props.EncryptionKey = awsdynamodb.TableEncryption_CUSTOMER_MANAGED, o.key
	}
	table := awsdynamodb.NewTable(scope, new(id), props)
	if !o.recovery {
		suppressNag(table, "AWS::DynamoDB::Table", nagSuppression{rule: "AwsSolutions-DDB3", reason: o.without})
	}
	return table
}

// addDueIndex adds an index of the items with due work, by the time when it is due.
func addDueIndex(table awsdynamodb.Table) {
	table.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:      new(contract.StateDueIndex),
		PartitionKey:   attribute(contract.StateDueShard, awsdynamodb.AttributeType_STRING),
		SortKey:        attribute(contract.StateDueAt, awsdynamodb.AttributeType_NUMBER),
		ProjectionType: awsdynamodb.ProjectionType_KEYS_ONLY,
	})
}

func attribute(name string, kind awsdynamodb.AttributeType) *awsdynamodb.Attribute {
	return &awsdynamodb.Attribute{Name: new(name), Type: kind}
}
