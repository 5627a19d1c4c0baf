package awsstub

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// The statements that the table knows: an insert of one item, and an update whose condition names
// the whole key and further attributes.
var (
	insertForm = regexp.MustCompile(`^INSERT INTO "[^"]+" VALUE \{('[a-zA-Z]+': \?(?:, '[a-zA-Z]+': \?)*)\}$`)
	updateForm = regexp.MustCompile(`^UPDATE "[^"]+"((?: SET "[a-zA-Z]+" = \?)+)((?: REMOVE "[a-zA-Z]+")*) WHERE ("[a-zA-Z]+" = \?(?: AND "[a-zA-Z]+" = \?)*)$`)
	nameForm   = regexp.MustCompile(`["']([a-zA-Z]+)["']`)
)

func namesIn(text string) []string {
	var names []string
	for _, found := range nameForm.FindAllStringSubmatch(text, -1) {
		names = append(names, found[1])
	}
	return names
}

type statement struct {
	Statement  string
	Parameters []value
}

func (t *Table) batchExecuteStatement(body []byte) (any, error) {
	var in struct{ Statements []statement }
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	if n := len(in.Statements); n == 0 || n > mostStatements {
		return nil, refused{fmt.Sprintf("BatchExecuteStatement with %d statements", n)}
	}
	seen := map[string]bool{}
	var responses []any
	for _, s := range in.Statements {
		key, err := t.execute(s)
		if seen[key] {
			return nil, refused{"BatchExecuteStatement with two statements about one item"}
		}
		seen[key] = true
		var unknown refused
		switch {
		case errors.As(err, &unknown):
			return nil, err
		case err != nil:
			responses = append(responses, map[string]any{"Error": map[string]any{"Code": err.Error(), "Message": err.Error()}})
		default:
			responses = append(responses, struct{}{})
		}
	}
	return map[string]any{"Responses": responses}, nil
}

// execute runs one statement and returns the key of its item. Its error is the code.
func (t *Table) execute(s statement) (key string, err error) {
	if found := insertForm.FindStringSubmatch(s.Statement); found != nil {
		names := namesIn(found[1])
		if len(names) != len(s.Parameters) {
			return "", refused{"number of parameters of " + s.Statement}
		}
		it := item{}
		for i, name := range names {
			it[name] = s.Parameters[i]
		}
		err := t.put(it, func(old item) bool { return old == nil })
		if errors.Is(err, errCondition) {
			err = errors.New("DuplicateItem")
		}
		return it.key(), err
	}
	found := updateForm.FindStringSubmatch(s.Statement)
	if found == nil {
		return "", refused{"statement " + s.Statement}
	}
	set, remove, where := namesIn(found[1]), namesIn(found[2]), namesIn(found[3])
	if len(set)+len(where) != len(s.Parameters) {
		return "", refused{"number of parameters of " + s.Statement}
	}
	conditions := item{}
	for i, name := range where {
		conditions[name] = s.Parameters[len(set)+i]
	}
	if conditions[contract.LedgerPartitionKey].S == nil || conditions[contract.LedgerSortKey].S == nil {
		return "", refused{"an update without the whole key: " + s.Statement}
	}
	key = conditions.key()
	old := t.items[key]
	it := item{contract.LedgerPartitionKey: conditions[contract.LedgerPartitionKey], contract.LedgerSortKey: conditions[contract.LedgerSortKey]}
	for name, v := range old {
		it[name] = v
	}
	for i, name := range set {
		it[name] = s.Parameters[i]
	}
	for _, name := range remove {
		delete(it, name)
	}
	return key, t.put(it, func(old item) bool {
		for name, want := range conditions {
			has, ok := old[name]
			if !ok || has.text() != want.text() || (has.S == nil) != (want.S == nil) {
				return false
			}
		}
		return true
	})
}
