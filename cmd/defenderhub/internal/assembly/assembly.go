// Package assembly reads templates: those in the output of cdk synth, and those of deployed stacks.
package assembly

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Template is the template of one stack.
type Template struct {
	// Stack is the stack's name.
	Stack string
	// Account and Region are those to which the stack is pinned, "" if the credentials decide.
	Account, Region string
	// Bootstrap is the minimum version of the bootstrap stack, 0 if the template needs none.
	Bootstrap int
	Resources []Resource
}

// Resource is a resource of a template.
type Resource struct {
	Type           string
	Properties     map[string]any
	DeletionPolicy string
	DependsOn      any
	Metadata       map[string]any

	Stack, LogicalID string `json:"-"`
}

// Path returns the resource's path in the app if the template has it, else its logical ID after the
// stack's name.
func (r Resource) Path() string {
	if path, ok := r.Metadata["aws:cdk:path"].(string); ok {
		return strings.TrimSuffix(path, "/Resource")
	}
	return r.Stack + "/" + r.LogicalID
}

// Text returns a property that is a string, "" if it is missing or known only at deployment.
func (r Resource) Text(name string) string {
	text, _ := r.Properties[name].(string)
	return text
}

// manifest has the fields of cdk.out/manifest.json that Read needs.
type manifest struct {
	Artifacts map[string]struct {
		Type        string
		Environment string
		DisplayName string
		Properties  struct {
			TemplateFile                  string
			StackName                     string
			RequiresBootstrapStackVersion int
			DirectoryName                 string // of a stage's assembly
		}
	}
}

// Read reads all stacks of an output directory with those of its stages, or one template. A name
// selects the stack with that name; if there is only one, it is deployed under that name. For the path
// "" Read returns nothing.
func Read(path, name string) ([]Template, error) {
	if path == "" {
		return nil, nil
	}
	all, err := read(path)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no stack", path)
	}
	slices.SortFunc(all, func(a, b Template) int { return strings.Compare(a.Stack, b.Stack) })
	if name == "" {
		return all, nil
	}
	if len(all) == 1 {
		all[0].Stack = name
		for i := range all[0].Resources {
			all[0].Resources[i].Stack = name
		}
	}
	var names []string
	var selected []Template
	for _, t := range all {
		names = append(names, t.Stack)
		if t.Stack == name {
			selected = append(selected, t)
		}
	}
	if selected == nil {
		return nil, fmt.Errorf("%s has no stack %s, but %s", path, name, strings.Join(names, ", "))
	}
	return selected, nil
}

func read(path string) ([]Template, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		t, err := readTemplate(path, strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".json"), ".template"))
		return []Template{t}, err
	}
	text, err := os.ReadFile(filepath.Join(path, "manifest.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s has no manifest.json: run cdk synth first", path)
	}
	if err != nil {
		return nil, err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s/manifest.json: %w", path, err)
	}
	var all []Template
	for id, a := range m.Artifacts {
		stage := a.Type == "cdk:cloud-assembly"
		if !stage && a.Type != "aws:cloudformation:stack" {
			continue
		}
		file := a.Properties.TemplateFile
		if stage {
			file = a.Properties.DirectoryName
		}
		if !filepath.IsLocal(file) || filepath.Clean(file) == "." {
			return nil, fmt.Errorf("%s/manifest.json: %q is outside the directory", path, file)
		}
		if stage {
			below, err := read(filepath.Join(path, file))
			if err != nil {
				return nil, err
			}
			all = append(all, below...)
			continue
		}
		name := a.Properties.StackName
		if name == "" {
			name = id
		}
		t, err := readTemplate(filepath.Join(path, file), name)
		if err != nil {
			return nil, err
		}
		account, region, _ := strings.Cut(strings.TrimPrefix(a.Environment, "aws://"), "/")
		if account != "unknown-account" {
			t.Account = account
		}
		if region != "unknown-region" {
			t.Region = region
		}
		t.Bootstrap = a.Properties.RequiresBootstrapStackVersion
		all = append(all, t)
	}
	return all, nil
}

func readTemplate(path, stack string) (Template, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Template{}, err
	}
	t, err := Parse(text, stack)
	if err != nil {
		return Template{}, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Parse reads a template in JSON.
func Parse(text []byte, stack string) (Template, error) {
	var in struct{ Resources map[string]Resource }
	if err := json.Unmarshal(text, &in); err != nil {
		return Template{}, err
	}
	if len(in.Resources) == 0 {
		return Template{}, errors.New("no Resources: it is not a CloudFormation template in JSON")
	}
	t := Template{Stack: stack}
	for id, r := range in.Resources {
		r.Stack, r.LogicalID = stack, id
		t.Resources = append(t.Resources, r)
	}
	slices.SortFunc(t.Resources, func(a, b Resource) int { return strings.Compare(a.LogicalID, b.LogicalID) })
	return t, nil
}

// Walk calls f for each string in a value of a template.
func Walk(value any, f func(string)) {
	switch v := value.(type) {
	case string:
		f(v)
	case []any:
		for _, item := range v {
			Walk(item, f)
		}
	case map[string]any:
		for _, item := range v {
			Walk(item, f)
		}
	}
}
