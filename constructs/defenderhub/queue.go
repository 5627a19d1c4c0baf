package defenderhub

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

const (
	// retention is the longest that Amazon SQS keeps a message: the bound on how long
	// Security Hub may be off without loss.
	retention = 14 * 24 * time.Hour
	// maxReceives is the most that Amazon SQS allows. The forwarder moves a message that
	// can never be imported to the dead-letter queue itself; a message that comes back
	// this often crashes the function.
	maxReceives = 1000
)

// visibility is how long a queue hides a message from others once it was received: six
// timeouts of the function, and the time that it waits in Lambda's hands for its batch to
// fill. A short function with a long window would else see each message again and again.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
func visibility(timeout, batchWindow time.Duration) time.Duration { return 6*timeout + batchWindow }

// queueOptions are what the queues of this package differ in.
type queueOptions struct {
	// visibility is 0 for the default of Amazon SQS.
	visibility time.Duration
	deadLetter awssqs.IQueue
	// receives is after how many receives a message goes there, 0 for maxReceives.
	receives int
}

// newQueue makes a queue that is encrypted, takes TLS only, and keeps messages for long.
func newQueue(scope constructs.Construct, id string, key awskms.IKey, o queueOptions) awssqs.Queue {
	props := &awssqs.QueueProps{
		EnforceSSL:      new(true),
		Encryption:      awssqs.QueueEncryption_SQS_MANAGED,
		RetentionPeriod: seconds(retention),
	}
	if key != nil {
		props.Encryption, props.EncryptionMasterKey = awssqs.QueueEncryption_KMS, key
	}
	if o.visibility != 0 {
		props.VisibilityTimeout = seconds(o.visibility)
	}
	if o.deadLetter != nil {
		props.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: o.deadLetter, MaxReceiveCount: new(float64(or(o.receives, maxReceives)))}
	}
	return awssqs.NewQueue(scope, new(id), props)
}
