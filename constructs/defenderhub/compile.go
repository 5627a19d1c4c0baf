package defenderhub

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/gobuild"
)

// The packages of the functions below lambda/.
const (
	forwarderFunction     = "forwarder"
	auditResourceFunction = "auditresources"
	verificationFunction  = "verification"
	evaluatorFunction     = "evaluator"
	correlatorFunction    = "correlator"
	notifierFunction      = "notifier"
)

// functionCode returns the asset of the named function. prebuilt is the value of the prop Prebuilt,
// "" to compile the function.
func functionCode(name string, arch Architecture, prebuilt string) (awslambda.Code, error) {
	executable, err := functionExecutable(name, arch, prebuilt)
	if err != nil {
		return nil, err
	}
	if prebuilt == "" {
		return assetCode(gobuild.Asset{Dir: filepath.Dir(executable), Hash: filepath.Base(filepath.Dir(executable))}), nil
	}
	made, err := gobuild.Stage(executable, "", nil)
	if err != nil {
		return nil, &defender.FieldError{Field: "Prebuilt", Value: prebuilt, Want: fmt.Sprintf("a file that can be copied: %v", err)}
	}
	return assetCode(made), nil
}

// codeWithConfig returns the asset of an executable with its configuration in a JSON file beside it.
// field is the prop from which the configuration is made.
func codeWithConfig(executable, file, field string, config any) (awslambda.Code, error) {
	content, err := json.MarshalIndent(config, "", "\t")
	if err != nil {
		return nil, err
	}
	if found := tokenText.Find(content); found != nil {
		return nil, &defender.FieldError{Field: field, Value: deployTime, Want: fmt.Sprintf("values that are known at synthesis: %s would be deployed in %s as it is", found, file)}
	}
	made, err := gobuild.Stage(executable, file, append(content, '\n'))
	if err != nil {
		return nil, &defender.FieldError{Field: "Prebuilt", Value: executable, Want: fmt.Sprintf("a file that can be copied: %v", err)}
	}
	return assetCode(made), nil
}

// functionExecutable returns the path of the named function's executable. If prebuilt is "", it
// compiles this module's source with this module's dependencies, whatever module and settings the
// caller has. Its errors name the prop Prebuilt.
func functionExecutable(name string, arch Architecture, prebuilt string) (string, error) {
	if strings.HasSuffix(prebuilt, zipped) {
		executable, err := gobuild.Unzip(prebuilt)
		if err != nil {
			return "", &defender.FieldError{Field: "Prebuilt", Value: prebuilt, Want: fmt.Sprintf("a zip that holds an executable named %s: %v", gobuild.Bootstrap, err)}
		}
		return executable, nil
	}
	if prebuilt != "" {
		return prebuilt, nil
	}
	all, err := gobuild.Compile(arch.goarch(), name)
	if err != nil {
		return "", compileFault("Prebuilt", "the path of a prebuilt executable or zip", name, err)
	}
	return all[name].Executable(), nil
}

// zipped is the suffix of the files of a release.
const zipped = ".zip"

// prebuilt reports a path that is not a file.
func (f *faults) prebuilt(field, path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		f.add(field, path, "the path of an existing executable or zip, or empty to compile it")
	}
}

// compileFault returns the error for a function that could not be compiled.
func compileFault(field, instead, name string, err error) error {
	want := instead + ", because lambda/%s does not compile here: %v"
	if errors.Is(err, exec.ErrNotFound) {
		want = instead + ", or Go on PATH to compile lambda/%s: %v"
	}
	return &defender.FieldError{Field: field, Want: fmt.Sprintf(want, name, err)}
}

// assetCode converts an asset for the CDK.
func assetCode(a gobuild.Asset) awslambda.Code {
	return awslambda.Code_FromAsset(new(a.Dir), &awss3assets.AssetOptions{
		AssetHashType: awscdk.AssetHashType_CUSTOM, AssetHash: new(a.Hash),
	})
}

// compileAll builds several functions with one go command. That takes hardly longer than one
// function, because they share most packages. The compile methods of the parts then reuse the
// result. Errors are ignored here, because those methods repeat and report them.
func compileAll(arch Architecture, names ...string) {
	_, _ = gobuild.Compile(arch.goarch(), names...)
}
