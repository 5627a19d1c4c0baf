// Package sqstext makes JSON valid in messages of Amazon SQS.
package sqstext

import "strings"

// Accepted escapes the characters that Amazon SQS refuses in messages, but JSON allows.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
var Accepted = strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`)
