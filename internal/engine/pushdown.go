package engine

import (
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// PayloadBytes is the size of a message's payload in IoT SQL. No function of it gives
// the size of a payload that may be no JSON; base64 has four characters for each
// three bytes and says by one or two = at its end how many of them are padding. The
// length is a multiple of four, so the arithmetic is exact in whole numbers. That AWS
// encodes JSON byte for byte as it was published is likely but not documented.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html
const PayloadBytes = "(length(encode(*, 'base64')) / 4 * 3 - cast(endswith(encode(*, 'base64'), '=') as Int) - cast(endswith(encode(*, 'base64'), '==') as Int))"

// inverse are the comparisons that hold when the normal one does not.
var inverse = map[iotapi.Operator]string{
	iotapi.LessThan:          ">=",
	iotapi.LessThanEquals:    ">",
	iotapi.GreaterThan:       "<=",
	iotapi.GreaterThanEquals: "<",
}

// PushDown is what lets an IoT rule keep conforming messages back, so that they cost
// no action: a WHERE condition that is true of the messages that violate one of the
// behaviors. It is "" unless one of them compares the message size with a static value.
// Of the behaviors with one operator the strictest speaks for all, so that the condition
// stays short however many there are. Dimensions are left to the evaluation.
func PushDown(behaviors []Compiled) string {
	var operators []iotapi.Operator
	strictest := map[iotapi.Operator]int64{}
	for _, c := range behaviors {
		if c.kind.messages(&c) != violatingMessages {
			continue
		}
		operator, bound := c.Behavior.Criteria.Operator(), *c.Behavior.Criteria.Value().Count
		known, ok := strictest[operator]
		switch {
		case !ok:
			operators = append(operators, operator)
		case operator == iotapi.LessThan || operator == iotapi.LessThanEquals:
			bound = min(known, bound)
		default:
			bound = max(known, bound)
		}
		strictest[operator] = bound
	}
	var terms []string
	for _, operator := range operators {
		terms = append(terms, fmt.Sprintf("%s %s %d", PayloadBytes, inverse[operator], strictest[operator]))
	}
	return strings.Join(terms, " OR ")
}
