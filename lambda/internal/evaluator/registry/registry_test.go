package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

const (
	account = "123456789012"
	region  = "eu-central-1"
	minute  = time.Minute
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// id returns a certificate's ID.
func id(digit string) string { return strings.Repeat(digit, 64) }

// awsIoT answers the SDK's requests as AWS IoT does, one element per page.
type awsIoT struct {
	// certificates has the things of each certificate, things the groups of each thing, parents the
	// ancestors of each group, beginning with the root.
	certificates, things, parents map[string][]string
	// fails is the operation that is throttled.
	fails string
	// before runs before each answer.
	before func()

	mutex sync.Mutex
	calls []string
}

func (f *awsIoT) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.before != nil {
		f.before()
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	name := strings.Split(r.URL.Path, "/")[2]
	var operation, field string
	var known map[string][]string
	switch {
	case r.URL.Path == "/principals/things":
		operation, field, known = "ListPrincipalThings", "things", f.certificates
		certificate, ok := strings.CutPrefix(r.Header.Get("X-Amzn-Principal"), "arn:aws:iot:"+region+":"+account+":cert/")
		if !ok {
			fail(w, http.StatusBadRequest, "InvalidRequestException")
			return
		}
		name = certificate
	case strings.HasSuffix(r.URL.Path, "/thing-groups"):
		operation, field, known = "ListThingGroupsForThing", "thingGroups", f.things
	case strings.HasPrefix(r.URL.Path, "/things/"):
		operation, known = "DescribeThing", f.things
	default:
		operation, known = "DescribeThingGroup", f.parents
	}
	f.calls = append(f.calls, operation)
	all, exists := known[name]
	switch {
	case operation == f.fails:
		fail(w, http.StatusTooManyRequests, "ThrottlingException")
	case !exists:
		fail(w, http.StatusNotFound, "ResourceNotFoundException")
	case operation == "DescribeThing":
		answer(w, map[string]any{"thingName": name})
	case operation == "DescribeThingGroup":
		answer(w, map[string]any{"thingGroupName": name, "thingGroupMetadata": map[string]any{"rootToParentThingGroups": groups(all)}})
	default:
		from, _ := strconv.Atoi(r.URL.Query().Get("nextToken"))
		page := map[string]any{}
		if from+1 < len(all) {
			page["nextToken"] = strconv.Itoa(from + 1)
		}
		if all = all[from:min(from+1, len(all))]; field == "things" {
			page[field] = all
		} else {
			page[field] = groups(all)
		}
		answer(w, page)
	}
}

func groups(names []string) []map[string]string {
	all := []map[string]string{}
	for _, name := range names {
		all = append(all, map[string]string{"groupName": name, "groupArn": "arn:aws:iot:" + region + ":" + account + ":thinggroup/" + name})
	}
	return all
}

func answer(w http.ResponseWriter, v any) {
	json.NewEncoder(w).Encode(v) //nolint:errcheck // a recorder takes everything
}

func fail(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("X-Amzn-ErrorType", kind)
	w.WriteHeader(status)
	answer(w, map[string]string{"message": kind})
}

// took returns the calls since it was last called.
func (f *awsIoT) took() string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	all := strings.Join(f.calls, " ")
	f.calls = nil
	return all
}

func (f *awsIoT) registry(t *testing.T, edit func(*registry.Config)) *registry.Registry {
	t.Helper()
	c := registry.Config{Config: certificate.Config{MaxAge: 10 * minute, Size: 100}}
	if edit != nil {
		edit(&c)
	}
	r, err := registry.New(iot.NewFromConfig(inprocess.Config(f, account, region)), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// invocation returns the context of an invocation of a function in the account.
func invocation(t *testing.T) context.Context {
	return lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws:lambda:" + region + ":" + account + ":function:evaluator"})
}

func newAWSIoT() *awsIoT {
	return &awsIoT{
		certificates: map[string][]string{
			id("1"): {"pump-1"}, id("2"): {"pump-1", "pump-2", "pump-3"}, id("3"): {},
		},
		things: map[string][]string{
			"pump-1": {"north", "fast"}, "pump-2": nil, "pump-3": {"deleted"},
		},
		parents: map[string][]string{"north": {"all", "europe"}, "fast": nil},
	}
}

func TestPrincipalIsPreferredToTheClientID(t *testing.T) {
	for name, row := range map[string]struct {
		client, principal string
		want              string
		registered        bool
		calls             string
	}{
		"one thing":                         {"c", id("1"), "pump-1", true, "ListPrincipalThings"},
		"one thing, over HTTPS":             {"n/a", id("1"), "pump-1", true, "ListPrincipalThings"},
		"several, one named like client":    {"pump-2", id("2"), "pump-2", true, "ListPrincipalThings ListPrincipalThings DescribeThing"},
		"several, none named like client":   {"c", id("2"), "c", false, "ListPrincipalThings ListPrincipalThings DescribeThing"},
		"several, over HTTPS":               {"n/a", id("2"), "", false, "ListPrincipalThings ListPrincipalThings"},
		"no thing":                          {"pump-1", id("3"), "pump-1", true, "ListPrincipalThings DescribeThing"},
		"unknown certificate":               {"c", id("4"), "c", false, "ListPrincipalThings DescribeThing"},
		"no certificate":                    {"pump-1", "AROAEXAMPLE:session", "pump-1", true, "DescribeThing"},
		"no certificate, over HTTPS":        {"n/a", "AROAEXAMPLE:session", "", false, ""},
		"no principal":                      {"pump-2", "", "pump-2", true, "DescribeThing"},
		"client ID that can name no thing":  {"a/b c", "", "a/b c", false, ""},
		"client ID longer than thing names": {strings.Repeat("c", 129), "", strings.Repeat("c", 129), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			aws := newAWSIoT()
			r := aws.registry(t, nil)
			for range 2 { // the second answer is cached
				got, err := r.Resolve(invocation(t), row.client, row.principal, noon)
				if err != nil || got.Name != row.want || got.Registered != row.registered || got.Groups != nil {
					t.Fatalf("got %+v, error %v; want %q, registered %v", got, err, row.want, row.registered)
				}
			}
			if calls := aws.took(); calls != row.calls {
				t.Errorf("calls %s, want %s", calls, row.calls)
			}
		})
	}
}

func TestGroupsIncludeTheirAncestors(t *testing.T) {
	aws := newAWSIoT()
	r := aws.registry(t, func(c *registry.Config) { c.Groups = true })
	resolve := func(client string, want []string, calls string) {
		t.Helper()
		got, err := r.Resolve(invocation(t), client, "", noon)
		if err != nil || !slices.Equal(got.Groups, want) {
			t.Errorf("%s: groups %v, error %v; want %v", client, got.Groups, err, want)
		}
		if took := aws.took(); took != calls {
			t.Errorf("%s: calls %s, want %s", client, took, calls)
		}
	}
	resolve("pump-1", []string{"all", "europe", "fast", "north"},
		"DescribeThing ListThingGroupsForThing DescribeThingGroup ListThingGroupsForThing DescribeThingGroup")
	aws.things["pump-4"] = []string{"north"}
	resolve("pump-4", []string{"all", "europe", "north"}, "DescribeThing ListThingGroupsForThing") // the group is cached
	resolve("pump-2", nil, "DescribeThing ListThingGroupsForThing")
	resolve("pump-3", nil, "DescribeThing ListThingGroupsForThing DescribeThingGroup") // deleted since
	resolve("no-thing", nil, "DescribeThing")
	got, _ := r.Resolve(invocation(t), "pump-1", "", noon)
	got.Groups[0] = "changed"
	resolve("pump-1", []string{"all", "europe", "fast", "north"}, "")
}

func TestAnswersExpireByTheTimeOfTheRecords(t *testing.T) {
	aws := newAWSIoT()
	r := aws.registry(t, func(c *registry.Config) { c.Groups = true })
	for _, row := range []struct {
		at    time.Duration
		calls int
	}{
		{0, 5}, {9 * minute, 0}, {-9 * minute, 0}, // cached for as long before as after
		{10 * minute, 5}, {19 * minute, 0}, {0, 5},
	} {
		if _, err := r.Resolve(invocation(t), "pump-1", "", noon.Add(row.at)); err != nil {
			t.Fatal(err)
		}
		if n := len(strings.Fields(aws.took())); n != row.calls {
			t.Errorf("%v after the first: %d calls, want %d", row.at, n, row.calls)
		}
	}
	// The answer that a thing is not registered expires too.
	for at, want := range []bool{false, true} {
		got, err := r.Resolve(invocation(t), "late", "", noon.Add(time.Duration(at)*10*minute))
		if err != nil || got.Registered != want {
			t.Errorf("got %+v, error %v; want registered %v", got, err, want)
		}
		aws.things["late"] = nil
	}
}

// AWS IoT lets an account list the things of ten principals per second: a device with many client
// IDs must not use that up.
func TestPrincipalWithManyClientIDsIsAskedForOnce(t *testing.T) {
	aws := newAWSIoT()
	r := aws.registry(t, nil)
	for _, row := range []struct {
		client string
		at     time.Duration
		calls  string
	}{
		{"a", 0, "ListPrincipalThings"}, {"b", 0, ""}, {"c", 59 * time.Second, ""}, {"d", minute, "ListPrincipalThings"}, {"a", 9 * minute, ""},
	} {
		got, err := r.Resolve(invocation(t), row.client, id("1"), noon.Add(row.at))
		if err != nil || got.Name != "pump-1" {
			t.Errorf("client ID %s: got %+v, error %v; want pump-1", row.client, got, err)
		}
		if calls := aws.took(); calls != row.calls {
			t.Errorf("client ID %s after %v: calls %q, want %q", row.client, row.at, calls, row.calls)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	aws := newAWSIoT()
	r := aws.registry(t, func(c *registry.Config) { c.Size = 2 })
	for _, client := range []string{"a", "b", "a", "c", "a", "b"} { // c evicts b
		if _, err := r.Resolve(invocation(t), client, "", noon); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(strings.Fields(aws.took())); n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
	if _, err := registry.New(nil, registry.Config{}); err == nil {
		t.Error("no error for size 0")
	}
}

func TestFailuresAreNotCached(t *testing.T) {
	for _, fails := range []string{"ListPrincipalThings", "DescribeThing", "ListThingGroupsForThing", "DescribeThingGroup"} {
		aws := newAWSIoT()
		aws.certificates[id("1")] = nil
		r := aws.registry(t, func(c *registry.Config) { c.Groups = true })
		aws.fails = fails
		got, err := r.Resolve(invocation(t), "pump-1", id("1"), noon)
		var throttled *types.ThrottlingException
		if !errors.Is(err, certificate.ErrUnresolved) || !errors.As(err, &throttled) || !strings.Contains(err.Error(), fails) || got.Name != "" || got.Registered {
			t.Errorf("%s fails: got %+v, error %v; want an error that names the call, and no thing", fails, got, err)
		}
		aws.fails = ""
		if got, err := r.Resolve(invocation(t), "pump-1", id("1"), noon); err != nil || len(got.Groups) != 4 {
			t.Errorf("after %s failed: got %+v, error %v; want 4 groups", fails, got, err)
		}
	}
	ctx, cancel := context.WithCancel(invocation(t))
	cancel()
	if _, err := newAWSIoT().registry(t, nil).Resolve(ctx, "pump-1", "", noon); !errors.Is(err, certificate.ErrUnresolved) || !errors.Is(err, context.Canceled) {
		t.Errorf("out of time: error %v, want ErrUnresolved and context.Canceled", err)
	}
}

// A thing deleted between two calls is not a thing without groups.
func TestThingDeletedMeanwhileIsUnresolved(t *testing.T) {
	aws := newAWSIoT()
	aws.before = func() {
		if len(aws.calls) == 1 {
			aws.things = maps.Clone(aws.things)
			delete(aws.things, "pump-1")
		}
	}
	got, err := aws.registry(t, func(c *registry.Config) { c.Groups = true }).Resolve(invocation(t), "pump-1", "", noon)
	if !errors.Is(err, certificate.ErrUnresolved) {
		t.Errorf("got %+v, error %v; want ErrUnresolved", got, err)
	}
}

func TestConcurrentLookupsShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		aws := newAWSIoT()
		gate := make(chan struct{})
		aws.before = func() { <-gate }
		r := aws.registry(t, func(c *registry.Config) { c.Groups = true })
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if got, err := r.Resolve(invocation(t), "pump-1", "", noon); err != nil || len(got.Groups) != 4 {
					t.Errorf("got %+v, error %v; want 4 groups", got, err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		if n := len(strings.Fields(aws.took())); n != 5 {
			t.Errorf("%d calls, want 5", n)
		}
	})
}

// manyThings is a registry of any number of things, each with one certificate.
type manyThings struct {
	// name formats a name from a number. Each thing has so many groups, and each of these so many
	// ancestors.
	name              string
	groups, ancestors int
}

func (m manyThings) ListPrincipalThings(_ context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	i, err := strconv.Atoi((*in.Principal)[len(*in.Principal)-64:])
	return &iot.ListPrincipalThingsOutput{Things: []string{fmt.Sprintf(m.name, i)}}, err
}

func (m manyThings) DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	return nil, errors.New("the certificate is enough")
}

func (m manyThings) ListThingGroupsForThing(context.Context, *iot.ListThingGroupsForThingInput, ...func(*iot.Options)) (*iot.ListThingGroupsForThingOutput, error) {
	return &iot.ListThingGroupsForThingOutput{ThingGroups: m.named(m.groups, 0)}, nil
}

func (m manyThings) DescribeThingGroup(_ context.Context, in *iot.DescribeThingGroupInput, _ ...func(*iot.Options)) (*iot.DescribeThingGroupOutput, error) {
	i, err := strconv.Atoi(strings.TrimLeft(*in.ThingGroupName, "pum-"))
	return &iot.DescribeThingGroupOutput{ThingGroupMetadata: &types.ThingGroupMetadata{RootToParentThingGroups: m.named(m.ancestors, (i+1)*100)}}, err
}

func (m manyThings) named(n, from int) []types.GroupNameAndArn {
	all := make([]types.GroupNameAndArn, n)
	for i := range all {
		name := fmt.Sprintf(m.name, from+i)
		all[i].GroupName = &name
	}
	return all
}

// Package evaluator caches 256 things in each MiB, of which GOMEMLIMIT is four fifths. AWS IoT allows
// a thing 10 groups and names of 128 bytes. We assume that a group has at most 6 ancestors, and that
// things share their groups, as here: the names of groups are stored once.
func TestMemoryOfAThing(t *testing.T) {
	const things = 5000
	heap := func() int {
		runtime.GC()
		runtime.GC() // the first one may have been running
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws:lambda:" + region + ":" + account + ":function:f"})
	for _, c := range []struct {
		manyThings
		most int
	}{{manyThings{"pump-%015d", 3, 2}, 800}, {manyThings{"pump-%0123d", 10, 6}, 1 << 20 * 8 / 10 / 256}} {
		before := heap()
		r, err := registry.New(c, registry.Config{Config: certificate.Config{MaxAge: time.Hour, Size: things}, Groups: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range things {
			thing, err := r.Resolve(ctx, fmt.Sprintf(c.name, i), fmt.Sprintf("%064d", i), noon)
			if err != nil || len(thing.Groups) != c.groups*(1+c.ancestors) {
				t.Fatalf("thing %+v, error %v", thing, err)
			}
		}
		each := (heap() - before) / things
		runtime.KeepAlive(r)
		if t.Logf("%d groups with %d ancestors each: %d bytes", c.groups, c.ancestors, each); each > c.most {
			t.Errorf("a thing with %d groups takes %d bytes, want at most %d", c.groups*(1+c.ancestors), each, c.most)
		}
	}
}
