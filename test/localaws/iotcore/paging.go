package iotcore

import (
	"encoding/base64"
)

// maxPage is the most items that any list operation here answers at once, and
// what it answers when the request names no number.
const maxPage = 250

// TokenInput is the paging of the operations with nextToken.
type TokenInput struct {
	MaxResults int    `query:"maxResults"`
	NextToken  string `query:"nextToken"`
}

// MarkerInput is the paging of the operations with marker, which list newest
// first unless Ascending.
type MarkerInput struct {
	PageSize  int    `query:"pageSize"`
	Marker    string `query:"marker"`
	Ascending bool   `query:"isAscendingOrder"`
}

// page returns the indexes of the n items, sorted by order, that belong on the
// requested page.
func (in TokenInput) page(n int, order func(int) string) ([]int, string, error) {
	return page(n, order, in.NextToken, in.MaxResults, true)
}

func (in MarkerInput) page(n int, order func(int) string) ([]int, string, error) {
	return page(n, order, in.Marker, in.PageSize, in.Ascending)
}

// page goes on behind the item whose order the token holds, so that items that
// come or go between two pages shift nothing.
func page(n int, order func(int) string, token string, size int, ascending bool) (indexes []int, next string, err error) {
	if size == 0 {
		size = maxPage
	}
	if size < 1 || size > maxPage {
		return nil, "", errInvalidRequest.new("The page size is %d, want 1 to %d", size, maxPage)
	}
	last, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return nil, "", errInvalidRequest.new("The token %q is not one of this service", token)
	}
	for k := range n {
		i := k
		if !ascending {
			i = n - 1 - k
		}
		seen := token != "" && (ascending && order(i) <= string(last) || !ascending && order(i) >= string(last))
		if seen {
			continue
		}
		if len(indexes) == size {
			return indexes, base64.StdEncoding.EncodeToString([]byte(order(indexes[size-1]))), nil
		}
		indexes = append(indexes, i)
	}
	return indexes, "", nil
}

// pick returns the items with the given indexes, never nil: AWS answers an
// empty list and not null.
func pick[T any](items []T, indexes []int) []T {
	out := make([]T, 0, len(indexes))
	for _, i := range indexes {
		out = append(out, items[i])
	}
	return out
}

// pageOfNames pages through sorted names.
func (in TokenInput) pageOfNames(names []string) ([]string, string, error) {
	indexes, next, err := in.page(len(names), func(i int) string { return names[i] })
	if err != nil {
		return nil, "", err
	}
	return pick(names, indexes), next, nil
}
