package offline

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// JSON converts a file of a user in YAML, of which JSON is a part, to JSON. What YAML would read as a
// date stays the text that the user wrote: no field of a report or a behavior is a date.
func JSON(text []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if document.IsZero() {
		return []byte("null"), nil
	}
	keepDates(&document)
	var tree any
	if err := document.Decode(&tree); err != nil {
		return nil, err
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("a key is not a string: %w", err)
	}
	return out, nil
}

func keepDates(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
		n.Tag = "!!str"
	}
	for _, c := range n.Content {
		keepDates(c)
	}
}
