package dynamodbtest

import (
	"context"
	"errors"
	"maps"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// maxStatements is the limit of one request.
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
const maxStatements = 25

// BatchExecuteStatement implements the client's method for writes: INSERT INTO "table" VALUE
// {'name': ?, ...}, and UPDATE "table" SET "name" = ? ... REMOVE "name" ... WHERE "name" = ? AND
// .... Each statement has its own error.
func (s *Service) BatchExecuteStatement(_ context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(in.Statements) == 0 || len(in.Statements) > maxStatements {
		return nil, invalid("%d statements, want 1 to %d", len(in.Statements), maxStatements)
	}
	out := &dynamodb.BatchExecuteStatementOutput{}
	seen := map[[3]string]bool{}
	for _, one := range in.Statements {
		if one.ConsistentRead != nil || one.ReturnValuesOnConditionCheckFailure != "" {
			return nil, unsupported("reads and returned values of BatchExecuteStatement")
		}
		st := statement{text: aws.ToString(one.Statement), tokens: statementTokens(aws.ToString(one.Statement)), parameters: one.Parameters}
		t, code, err := s.execute(&st, seen)
		if err != nil {
			return nil, err
		}
		response := types.BatchStatementResponse{TableName: aws.String(t.Name)}
		if code != "" {
			response.Error = &types.BatchStatementError{Code: code, Message: aws.String(string(code))}
		}
		out.Responses = append(out.Responses, response)
	}
	return out, nil
}

// statement is a PartiQL statement that is being parsed.
type statement struct {
	text       string
	tokens     []string
	parameters []types.AttributeValue
	err        error
}

func statementTokens(text string) []string {
	var tokens []string
	for i := 0; i < len(text); {
		c := rune(text[i])
		j := i + 1
		switch {
		case unicode.IsSpace(c):
			i = j
			continue
		case c == '"' || c == '\'':
			for j < len(text) && rune(text[j]) != c {
				j++
			}
			j = min(j+1, len(text))
		case word(c):
			for j < len(text) && word(rune(text[j])) {
				j++
			}
		}
		tokens = append(tokens, text[i:j])
		i = j
	}
	return tokens
}

func (s *statement) fail() {
	if s.err == nil {
		s.err = unsupported("the statement %q", s.text)
	}
	s.tokens = nil
}

func (s *statement) take(token string) bool {
	if len(s.tokens) > 0 && strings.EqualFold(s.tokens[0], token) {
		s.tokens = s.tokens[1:]
		return true
	}
	return false
}

func (s *statement) expect(tokens ...string) {
	for _, token := range tokens {
		if !s.take(token) {
			s.fail()
		}
	}
}

// name reads a quoted name.
func (s *statement) name() string {
	if len(s.tokens) == 0 || len(s.tokens[0]) < 3 || s.tokens[0][0] != '"' && s.tokens[0][0] != '\'' {
		s.fail()
		return ""
	}
	name := s.tokens[0][1 : len(s.tokens[0])-1]
	s.tokens = s.tokens[1:]
	return name
}

// parameter reads ?.
func (s *statement) parameter() types.AttributeValue {
	s.expect("?")
	if len(s.parameters) == 0 {
		s.fail()
		return nil
	}
	v := s.parameters[0]
	s.parameters = s.parameters[1:]
	return v
}

// execute runs a statement. code is the statement's own error.
func (s *Service) execute(st *statement, seen map[[3]string]bool) (t *table, code types.BatchStatementErrorCodeEnum, err error) {
	insert := st.take("INSERT")
	if insert {
		st.expect("INTO")
	} else {
		st.expect("UPDATE")
	}
	name := st.name()
	if st.err != nil {
		return nil, "", st.err
	}
	if t, err = s.table(&name); err != nil {
		return nil, "", err
	}
	var w write
	if insert {
		w.item = st.inserted()
	} else {
		code = s.updated(t, st, &w)
	}
	if len(st.tokens) > 0 || len(st.parameters) > 0 {
		st.fail()
	}
	if st.err != nil {
		return nil, "", st.err
	}
	if w.key == nil {
		w.key = Item{t.Partition: w.item[t.Partition], t.Sort: w.item[t.Sort]}
	}
	key := [3]string{t.Name, text(w.key, t.Partition), text(w.key, t.Sort)}
	if seen[key] {
		return nil, "", invalid("the batch has two statements about one item")
	}
	seen[key] = true
	if code != "" {
		s.observe(t, w, &types.ConditionalCheckFailedException{})
		return t, code, nil
	}
	if s.throttled(t, w.key) {
		return t, types.BatchStatementErrorCodeEnumThrottlingError, nil
	}
	if insert {
		w.condition, w.names = "attribute_not_exists(#pk)", map[string]string{"#pk": t.Partition}
	}
	err = s.check(t, &w)
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		s.observe(t, w, err)
		return t, types.BatchStatementErrorCodeEnumDuplicateItem, nil
	}
	if err != nil {
		return nil, "", err
	}
	s.apply(t, w)
	return t, "", nil
}

// inserted reads VALUE {'name': ?, ...}.
func (s *statement) inserted() Item {
	s.expect("VALUE", "{")
	it := Item{}
	for s.err == nil {
		name := s.name()
		s.expect(":")
		it[name] = s.parameter()
		if !s.take(",") {
			break
		}
	}
	s.expect("}")
	return it
}

// updated reads the changes and the condition of an UPDATE, which must name the whole key. The
// write has the changed item.
func (s *Service) updated(t *table, st *statement, w *write) types.BatchStatementErrorCodeEnum {
	set, remove, where := Item{}, map[string]bool{}, Item{}
	for st.err == nil {
		switch {
		case st.take("SET"):
			name := st.name()
			st.expect("=")
			set[name] = st.parameter()
			continue
		case st.take("REMOVE"):
			remove[st.name()] = true
			continue
		}
		break
	}
	st.expect("WHERE")
	for st.err == nil {
		name := st.name()
		st.expect("=")
		where[name] = st.parameter()
		if !st.take("AND") {
			break
		}
	}
	if where[t.Partition] == nil || where[t.Sort] == nil {
		st.fail()
		return ""
	}
	w.key = Item{t.Partition: where[t.Partition], t.Sort: where[t.Sort]}
	r, err := t.row(w.key)
	if err != nil {
		st.err = err
		return ""
	}
	w.item = maps.Clone(w.key)
	maps.Copy(w.item, set)
	if r == nil || r.item == nil {
		return types.BatchStatementErrorCodeEnumConditionalCheckFailed
	}
	for name, v := range where {
		if order, ok := compare(r.item[name], v); !ok || order != 0 {
			return types.BatchStatementErrorCodeEnumConditionalCheckFailed
		}
	}
	w.item = maps.Clone(r.item)
	maps.Copy(w.item, set)
	for name := range remove {
		delete(w.item, name)
	}
	return ""
}
