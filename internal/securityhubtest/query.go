package securityhubtest

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
)

// query is the input of GetFindings.
type query struct {
	filters  object
	criteria []any
	token    string
	size     int
}

func decodeQuery(body []byte) (query, error) {
	o, err := decodeObject(body)
	if err != nil {
		return query{}, invalidInput("the body is not a JSON object: %v", err)
	}
	rule := members(map[string]rule{
		"Filters": func(path string, v any, report func(string)) {
			if _, ok := v.(object); !ok {
				report(path + " should be object")
			}
		},
		"SortCriteria": list(0, 0, members(map[string]rule{
			"Field":     text(0),
			"SortOrder": enum("asc", "desc"),
		}, "Field")),
		"NextToken":  text(0),
		"MaxResults": number,
	})
	if faults := faultsOf(rule, o); len(faults) > 0 {
		return query{}, invalidInput("Invalid parameter. %s.", faults[0])
	}
	q := query{size: MaxFindings}
	q.filters, _ = o["Filters"].(object)
	q.criteria, _ = o["SortCriteria"].([]any)
	q.token, _ = o["NextToken"].(string)
	if n, ok := o["MaxResults"].(json.Number); ok {
		if q.size, err = pageSize(n.String()); err != nil {
			return query{}, err
		}
	}
	return q, nil
}

type findingsAnswer struct {
	Findings  []object
	NextToken string `json:",omitempty"`
}

// get answers GetFindings. Without SortCriteria findings are in the order of creation.
func (h *Hub) get(q query) (findingsAnswer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	answer := findingsAnswer{Findings: []object{}}
	if err := h.needOn(); err != nil {
		return answer, err
	}
	h.expire()
	wanted, err := compileFilters(q.filters, h.now())
	if err != nil {
		return answer, err
	}
	var found []object
	for _, r := range h.order {
		if wanted(r.content) {
			found = append(found, r.content)
		}
	}
	if err := sortBy(found, q.criteria); err != nil {
		return answer, err
	}
	about := string(encode([]any{q.filters, q.criteria}))
	page, next, err := pageOf(found, q.token, q.size, about)
	if err != nil {
		return answer, err
	}
	answer.Findings = append(answer.Findings, page...)
	answer.NextToken = next
	return answer, nil
}

// sortBy sorts by attributes, which have the same names as in Filters. Texts sort by bytes, times
// by value. A finding without a value sorts first.
func sortBy(found []object, criteria []any) error {
	for i := len(criteria) - 1; i >= 0; i-- { // stable, so the first criterion sorts last
		c := criteria[i].(object)
		name := c["Field"].(string)
		a, ok := attributes[name]
		if !ok || a.kind == mapFilter {
			return invalidInput("Invalid parameter 'SortCriteria'. %q is not a field to sort by.", name)
		}
		slices.SortStableFunc(found, func(x, y object) int {
			order := a.compare(x, y)
			if c["SortOrder"] == "desc" {
				return -order
			}
			return order
		})
	}
	return nil
}

func (a attribute) compare(x, y object) int {
	xs, ys := a.values(x), a.values(y)
	if len(xs) == 0 || len(ys) == 0 {
		return cmp.Compare(len(xs), len(ys))
	}
	x0, y0 := fmt.Sprint(xs[0]), fmt.Sprint(ys[0])
	if a.kind == dateFilter {
		earlier, _ := parseInstant(x0)
		later, _ := parseInstant(y0)
		return earlier.Compare(later)
	}
	return cmp.Compare(x0, y0)
}

// pageSize parses a MaxResults.
func pageSize(s string) (int, error) {
	n, err := json.Number(s).Int64()
	if err != nil || n < 1 || n > MaxFindings {
		return 0, invalidInput("Invalid parameter 'MaxResults'. %s should be 1 to %d.", s, MaxFindings)
	}
	return int(n), nil
}

// pageOf returns a page of all. A token is the position of the next page, and is valid only for
// the same request: about.
func pageOf[T any](all []T, token string, size int, about string) (page []T, next string, err error) {
	start := 0
	if token != "" {
		if start, err = openToken(token, about); err != nil {
			return nil, "", err
		}
	}
	start = min(start, len(all))
	end := min(start+size, len(all))
	if end < len(all) {
		next = sealToken(end, about)
	}
	return all[start:end], next, nil
}

func sealToken(place int, about string) string {
	sum := sha256.Sum256([]byte(about))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(sum[:12], uint32(place)))
}

func openToken(token, about string) (int, error) {
	sum := sha256.Sum256([]byte(about))
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(data) != 16 || string(data[:12]) != string(sum[:12]) {
		return 0, invalidInput("Invalid parameter 'NextToken'. It belongs to no earlier answer to the same request.")
	}
	return int(binary.BigEndian.Uint32(data[12:])), nil
}
