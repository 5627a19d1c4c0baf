package defenderhub

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

const (
	// retention is Amazon SQS's maximum. Security Hub may be off for this long without loss.
	retention = 14 * 24 * time.Hour
	// maxReceives is Amazon SQS's maximum. The forwarder itself moves messages that can never be
	// imported to the dead-letter queue; only a message that crashes the function is received
	// this often.
	maxReceives = 1000
)

// visibility returns a queue's visibility timeout, as AWS advises: six times the function's
// timeout, plus the batching window. Otherwise messages would be received again while a batch with
// a long window still fills.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
func visibility(timeout, batchWindow time.Duration) time.Duration { return 6*timeout + batchWindow }

// queueOptions are the differences between the queues of this package.
type queueOptions struct {
	// visibility is 0 for the default of Amazon SQS.
	visibility time.Duration
	// delay is how long Amazon SQS hides each new message, at most 15 minutes.
	delay time.Duration
	// deadLetter receives a message after that many receives, 0 for maxReceives. nil means no
	// dead-letter queue.
	deadLetter awssqs.IQueue
	receives   int
}

// newQueue creates an encrypted queue that requires TLS and keeps messages for the maximum time.
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
	if o.delay != 0 {
		props.DeliveryDelay = seconds(o.delay)
	}
	if o.deadLetter != nil {
		props.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: o.deadLetter, MaxReceiveCount: new(float64(or(o.receives, maxReceives)))}
	}
	return awssqs.NewQueue(scope, new(id), props)
}
