package awsstub_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

func TestPagesBelongToATask(t *testing.T) {
	s := awsstub.New()
	defer s.Close()
	s.Audits = &awsstub.Audits{PageSize: 2}
	s.Audits.Add("a", []awsstub.AuditFinding{{awsstub.Check, "1"}, {awsstub.KeyCheck, "2"}, {awsstub.Check, "3"}})
	s.Audits.Add("b", nil)
	for _, step := range []struct {
		query, task string
		findings    int
		next        string
		refused     string
	}{
		{"maxResults=250", "a", 2, "a/2", ""},
		{"maxResults=250&nextToken=a/2", "a", 1, "", ""},
		{"maxResults=1", "a", 1, "a/1", ""},
		{"maxResults=250", "b", 0, "", ""},
		{"maxResults=250&nextToken=a/2", "b", 0, "", "page token"},
		{"maxResults=251", "a", 0, "", "a page of 251"},
		{"maxResults=250", "c", 0, "", "audit task c"},
	} {
		before := len(s.Refused())
		response, err := http.Post(s.URL+"/audit/findings?"+step.query, "application/json", strings.NewReader(`{"taskId":"`+step.task+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Findings  []any
			NextToken string
		}
		err = json.NewDecoder(response.Body).Decode(&page)
		response.Body.Close()
		refused := s.Refused()[before:]
		if err != nil || len(page.Findings) != step.findings || page.NextToken != step.next || (len(refused) > 0) != (step.refused != "") || len(refused) > 0 && !strings.Contains(refused[0], step.refused) {
			t.Errorf("%+v: %v, %+v, refused %q", step, err, page, refused)
		}
	}
}
