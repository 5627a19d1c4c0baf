package iotsql_test

import (
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
)

func Example() {
	rule, err := iotsql.Parse(`SELECT clientid() AS clientId, timestamp() AS time, tampered FROM 'defenderhub/events/+' WHERE tampered = true`)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := iotsql.ParseTemplate("doors/${topic(3)}")
	if err != nil {
		fmt.Println(err)
		return
	}
	message := iotsql.Message{
		Topic:    "defenderhub/events/door-7",
		ClientID: "door-7",
		Time:     time.UnixMilli(1481825251155),
		Payload:  []byte(`{"tampered": true}`),
	}
	fmt.Println(rule.Matches("DoorEvents", message.Topic))
	evaluation := rule.Begin(message)
	output, matched, err := evaluation.Select()
	fmt.Println(string(output), matched, err)
	fmt.Println(evaluation.Expand(key))
	// Output:
	// true
	// {"clientId":"door-7","tampered":true,"time":1481825251155} true <nil>
	// doors/door-7
}

func ExampleParse_refused() {
	_, err := iotsql.Parse(`SELECT get_dynamodb("table", "key", id, "role") AS row FROM 'a/b'`)
	fmt.Println(err)
	// Output:
	// parse AWS IoT SQL: SELECT item 1: line 1 column 8: function get_dynamodb: the local AWS does not support it, it calls an external service
}
