package defender_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/defenderhub/defenderhub"

// ban is a rule for the dependencies of packages.
type ban struct {
	packages string
	banned   []string
	why      string
	// uses must be among the dependencies. Otherwise go list did not list them.
	uses string
}

// bans are the imports that would break the order app -> constructs -> defender <- lambda. Constructs
// and functions share the packages in internal/.
var bans = []ban{
	{"./defender/...", []string{"github.com/aws/", module + "/constructs", module + "/lambda"}, "constructs and functions share it", "encoding/json"},
	{"./internal/...", []string{"github.com/aws/aws-cdk-go", "github.com/aws/jsii-runtime-go", module + "/constructs", module + "/lambda"}, "constructs and functions share them", "encoding/json"},
	{"./internal/asff", []string{"github.com/aws/"}, "constructs and functions share it", module + "/defender"},
	{"./internal/contract", []string{"github.com/aws/"}, "constructs and functions share it", module + "/defender"},
	{"./internal/engine/...", []string{"github.com/aws/"}, "judging behaviors calls no AWS API", module + "/defender"},
	{"./internal/iotrule", []string{"github.com/aws/"}, "constructs and functions share it", module + "/defender"},
	{"./internal/report", []string{"github.com/aws/"}, "reading reports calls no AWS API", module + "/defender"},
	{"./internal/deviceevent", []string{"github.com/aws/"}, "constructs and functions share it", module + "/defender"},
	{"./internal/correlation", []string{"github.com/aws/"}, "constructs and functions share it", module + "/defender"},
	{"./internal/findingevent", []string{"github.com/aws/"}, "constructs and functions share it", module + "/defender"},
	{"./internal/gobuild", []string{"github.com/aws/"}, "compiling calls no AWS API", "os/exec"},
	{"./lambda/...", []string{"github.com/aws/aws-cdk-go", "github.com/aws/jsii-runtime-go", module + "/constructs"}, "the CDK more than doubles the size of a function", module + "/defender"},
	{"./lambda/...", []string{"google.golang.org/protobuf"}, "with its reflection the linker removes no unused code: the forwarder grows from 13 to 33 MB", module + "/defender"},
	{"./constructs/...", []string{"github.com/aws/aws-sdk-go-v2", module + "/lambda"}, "synthesis calls no AWS API", module + "/defender"},
	{"./lambda/...", []string{module + "/internal/gobuild"}, "only synthesis compiles the functions", module + "/defender"},
	{"./defender/...", []string{module + "/internal/gobuild"}, "only synthesis compiles the functions", "encoding/json"},
	{"./internal/securityhubtest", []string{"github.com/aws/aws-lambda-go", "github.com/aws/aws-sdk-go-v2/config", "pgregory.net/"}, "the local Security Hub needs no more of the SDK than its types", "net/http"},
	{"./internal/dynamodbtest", []string{"github.com/aws/aws-lambda-go", "github.com/aws/aws-sdk-go-v2/config", "pgregory.net/"}, "the table in memory needs no more of the SDK than its types", "sync"},
	{"./constructs/...", testDoubles, "embedders must not get dependencies of tests", module + "/defender"},
	{".", []string{"github.com/aws/aws-sdk-go-v2", module + "/lambda"}, "the app only builds a stack", module + "/constructs"},
	{"./...", []string{module + "/test"}, "embedders must not get dependencies of tests", module + "/defender"},
}

// Embedders can import only defender, its subpackages and the constructs.
func TestOnlyTheAPIIsImportable(t *testing.T) {
	command := exec.Command("go", "list", "-f", "{{.Name}} {{.ImportPath}}", "./...")
	command.Dir = ".."
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for line := range strings.Lines(string(out)) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		listed++
		path = strings.TrimPrefix(path, module)
		api := path == "/defender" || strings.HasPrefix(path, "/defender/") || strings.HasPrefix(path, "/constructs/")
		if name != "main" && !api && !slices.Contains(strings.Split(path, "/"), "internal") {
			t.Errorf("package %s can be imported by embedders: move it to defender/, constructs/ or an internal directory", path)
		}
	}
	if listed < 10 {
		t.Errorf("go list lists %d packages, want at least 10", listed)
	}
}

// testDoubles are the packages that only tests may import.
var testDoubles = []string{module + "/internal/securityhubtest", module + "/internal/dynamodbtest", module + "/internal/eventpatterntest", module + "/lambda/internal/inprocess"}

// functions returns the directories of the Lambda functions' programs.
func functions(t *testing.T) []string {
	t.Helper()
	mains, err := filepath.Glob("../lambda/*/main.go")
	if err != nil || len(mains) < 6 {
		t.Fatalf("%d Lambda functions found, error %v, want at least 6", len(mains), err)
	}
	for i, path := range mains {
		mains[i] = "./" + filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), "../"))
	}
	return mains
}

func TestNoPackageHasABannedImport(t *testing.T) {
	bans := slices.Clone(bans)
	for _, function := range functions(t) {
		bans = append(bans, ban{function, testDoubles, "a function must not contain a test double", "context"})
	}
	for _, ban := range bans {
		paths := dependencies(t, ban.packages, ban.uses)
		for _, prefix := range ban.banned {
			i := slices.IndexFunc(paths, func(path string) bool { return isBanned(path, ban.packages, prefix) })
			if i >= 0 {
				t.Errorf("%s imports %s: %s", ban.packages, paths[i], ban.why)
			}
		}
	}
}

// isBanned reports whether path begins with prefix and is not one of packages.
func isBanned(path, packages, prefix string) bool {
	own := module + strings.TrimSuffix(strings.TrimPrefix(packages, "."), "/...")
	within := path == own || packages != "." && strings.HasPrefix(path, own+"/") && packages != "./..."
	return strings.HasPrefix(path, prefix) && !within
}

// dependencies returns the direct and indirect dependencies of packages, without tests.
func dependencies(t *testing.T, packages, uses string) []string {
	t.Helper()
	command := exec.Command("go", "list", "-deps", packages)
	command.Dir = ".."
	var fault strings.Builder
	command.Stderr = &fault
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v: %s", packages, err, fault.String())
	}
	paths := strings.Fields(string(out))
	if !slices.Contains(paths, uses) && !slices.ContainsFunc(paths, func(path string) bool { return strings.HasPrefix(path, uses+"/") }) {
		t.Fatalf("go list -deps %s does not list %s: its output is incomplete", packages, uses)
	}
	return paths
}

// TestEachPackageIsDocumented checks that exactly one file of each package, in every module, has
// a package comment.
func TestEachPackageIsDocumented(t *testing.T) {
	documented := map[string][]string{} // files with a package comment, by folder
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != ".." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "cdk.out") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		folder := filepath.Dir(path)
		documented[folder] = append(documented[folder], documentation(file, name)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(documented) < 4 {
		t.Errorf("%d packages found, want at least 4", len(documented))
	}
	for folder, files := range documented {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments %v, want 1", folder, len(files), files)
		}
	}
}

// documentation returns the file's name if it has a package comment.
func documentation(file *ast.File, name string) []string {
	if file.Doc == nil || strings.TrimSpace(file.Doc.Text()) == "" {
		return nil
	}
	return []string{name}
}
