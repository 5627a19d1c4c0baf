package defenderhub_test

import (
	"archive/zip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

// TestFunctionAndAlarmTopicReachEveryPart sets both for the hub, and then others for the forwarder.
func TestFunctionAndAlarmTopicReachEveryPart(t *testing.T) {
	for _, own := range []bool{false, true} {
		stack := newStack()
		props := &defenderhub.DefenderHubProps{
			Audit:      &defenderhub.AuditProps{RunOnDeploy: true},
			Detect:     selfManaged(defenderhub.SelfManagedProps{}),
			Forwarder:  &defenderhub.ForwarderProps{},
			Function:   &defenderhub.FunctionProps{Architecture: defenderhub.AMD64, LogRetention: awslogs.RetentionDays_ONE_WEEK},
			AlarmTopic: awssns.NewTopic(stack, jsii.String("Common"), nil),
		}
		if own {
			props.Forwarder.Function = &defenderhub.FunctionProps{LogRetention: awslogs.RetentionDays_ONE_YEAR}
			props.Forwarder.AlarmTopic = awssns.NewTopic(stack, jsii.String("Own"), nil)
		}
		defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(props))
		tp := synth(t, stack)
		want := func(id string) (architecture string, days float64, topic string) {
			if own && strings.HasPrefix(id, "HubForwarder") {
				return `["arm64"]`, 365, tp.idOf(t, "AWS::SNS::Topic", "Own")
			}
			return `["x86_64"]`, 7, tp.idOf(t, "AWS::SNS::Topic", "Common")
		}
		seen := map[string]int{}
		for id, r := range tp {
			architecture, days, topic := want(id)
			switch r.Type {
			case "AWS::Lambda::Function":
				if got := text(r.Properties["Architectures"]); got != architecture {
					t.Errorf("%s is for %s, want %s", id, got, architecture)
				}
			case "AWS::Logs::LogGroup":
				if got := r.Properties["RetentionInDays"]; got != days {
					t.Errorf("%s keeps %v days, want %v", id, got, days)
				}
			case "AWS::CloudWatch::Alarm":
				if got := text(r.Properties["AlarmActions"]); got != `[{"Ref":"`+topic+`"}]` {
					t.Errorf("%s notifies %s, want %s", id, got, topic)
				}
			}
			seen[r.Type]++
		}
		if seen["AWS::Lambda::Function"] != 4 || seen["AWS::Logs::LogGroup"] != 4 || seen["AWS::CloudWatch::Alarm"] != 19 {
			t.Errorf("the stack has %v, want 4 functions, 4 log groups and 19 alarms", seen)
		}
	}
}

func TestWrongFunctionPropOfTheHubIsReportedOnce(t *testing.T) {
	got, _ := faults(t, func() {
		defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
			Detect: selfManaged(defenderhub.SelfManagedProps{}), Function: &defenderhub.FunctionProps{Architecture: 9},
		}))
	})
	if want := []string{"Function.Architecture"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestZipDeploysItsExecutable gives each part the zip of an executable, as in a release.
func TestZipDeploysItsExecutable(t *testing.T) {
	program, err := os.ReadFile(prebuilt)
	if err != nil {
		t.Fatal(err)
	}
	archive := func(name string) string {
		path := filepath.Join(t.TempDir(), "function.zip")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := zip.NewWriter(file)
		entry, err := w.Create(name)
		if err == nil {
			_, err = entry.Write(program)
		}
		if err != nil || w.Close() != nil || file.Close() != nil {
			t.Fatal("the zip cannot be written")
		}
		return path
	}
	code := func(path string) (all []string) {
		props := withPrebuilt(&defenderhub.DefenderHubProps{Audit: &defenderhub.AuditProps{RunOnDeploy: true}, Detect: selfManaged(defenderhub.SelfManagedProps{})})
		props.Forwarder.Prebuilt, props.Audit.Prebuilt, props.Detect.SelfManaged.Prebuilt = path, path, path
		stack := newStack()
		defenderhub.NewDefenderHub(stack, jsii.String("Hub"), props)
		tp := synth(t, stack)
		for _, id := range tp.ids("AWS::Lambda::Function") {
			all = append(all, text(tp[id].Properties["Code"]))
		}
		return all
	}
	if zipped, plain := code(archive("bootstrap")), code(prebuilt); !slices.Equal(zipped, plain) || len(plain) != 4 {
		t.Errorf("zips deploy %v, executables %v", zipped, plain)
	}
	for _, path := range []string{archive("forwarder"), "no-such-file.zip", "testdata"} {
		got, message := faults(t, func() {
			defenderhub.NewForwarder(newStack(), jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: path})
		})
		if !slices.Equal(got, []string{"Prebuilt"}) {
			t.Errorf("%s: faults of %v, want Prebuilt: %s", path, got, message)
		}
	}
}
