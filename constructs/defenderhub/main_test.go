package defenderhub_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// newStack returns an environment-agnostic stack in its own app.
func newStack() awscdk.Stack {
	return awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Fleet"), nil)
}

// prebuilt replaces a compiled function, so that tests of the template compile nothing.
const prebuilt = "testdata/prebuilt/bootstrap"

// withPrebuilt adds prebuilt functions to the facade's props.
func withPrebuilt(props *defenderhub.DefenderHubProps) *defenderhub.DefenderHubProps {
	forwarder, audit := defenderhub.ForwarderProps{}, defenderhub.AuditProps{}
	if props.Forwarder != nil {
		forwarder = *props.Forwarder
	}
	if props.Audit != nil {
		audit = *props.Audit
	}
	forwarder.Prebuilt, audit.Prebuilt = prebuilt, prebuilt
	props.Forwarder, props.Audit = &forwarder, &audit
	return props
}

// hubTemplate returns the facade's template for props with prebuilt functions.
func hubTemplate(t *testing.T, props *defenderhub.DefenderHubProps) template {
	t.Helper()
	stack := newStack()
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(props))
	return synth(t, stack)
}

// template returns a stack's resources by logical ID.
type template map[string]resource

type resource struct {
	Type                string
	Properties          map[string]any
	DependsOn           []string
	DeletionPolicy      string
	UpdateReplacePolicy string
	Metadata            map[string]any
}

func synth(t *testing.T, stack awscdk.Stack) template {
	t.Helper()
	text, err := json.Marshal(assertions.Template_FromStack(stack, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ Resources template }
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out.Resources
}

// assetFile returns the path of a file that is deployed beside a function's executable.
func assetFile(t *testing.T, stack awscdk.Stack, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(*awscdk.App_Of(stack).Synth(nil).Directory(), "asset.*", name))
	if err != nil || len(files) != 1 {
		t.Fatalf("assets with %s: %v, error %v, want one", name, files, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(files[0]), "bootstrap")); err != nil {
		t.Error(err)
	}
	return files[0]
}

func readAssetFile(t *testing.T, stack awscdk.Stack, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(assetFile(t, stack, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// ids returns the sorted logical IDs of all resources of a type.
func (tp template) ids(kind string) []string {
	var ids []string
	for id, r := range tp {
		if r.Type == kind {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// one returns the only resource of a type.
func (tp template) one(t *testing.T, kind string) resource {
	t.Helper()
	ids := tp.ids(kind)
	if len(ids) != 1 {
		t.Fatalf("%d resources of type %s: %v, want one", len(ids), kind, ids)
	}
	return tp[ids[0]]
}

// idOf returns the logical ID of the resource of a type with this prefix: the prefix and the
// eight characters that the CDK appends.
func (tp template) idOf(t *testing.T, kind, prefix string) string {
	t.Helper()
	for _, id := range tp.ids(kind) {
		if strings.HasPrefix(id, prefix) && len(id) == len(prefix)+8 {
			return id
		}
	}
	t.Fatalf("no %s named %s: %v", kind, prefix, tp.ids(kind))
	return ""
}

// named returns the resource whose ID idOf returns.
func (tp template) named(t *testing.T, kind, prefix string) resource {
	t.Helper()
	return tp[tp.idOf(t, kind, prefix)]
}

// text returns a value as JSON.
func text(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// path follows keys into nested maps, and returns nil if one is missing.
func path(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// faults returns the fields in a constructor's error, in order.
func faults(t *testing.T, construct func()) (fields []string, message string) {
	t.Helper()
	defer func() {
		t.Helper()
		switch p := recover().(type) {
		case nil:
		case error:
			message = p.Error()
			for _, f := range defender.FieldErrors(p) {
				fields = append(fields, f.Field)
			}
			if fields == nil {
				t.Errorf("panic without a field: %v", p)
			}
		default:
			t.Errorf("panic with %T, want an error: %v", p, p)
		}
	}()
	construct()
	return nil, ""
}
