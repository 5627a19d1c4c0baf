package defender_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// limits are the least and most exported names of each package by its directory. Embedders read all
// of them. Fewer than the least would mean that this test does not see them.
var limits = map[string]struct{ least, most int }{
	".": {80, 120}, "behaviortest": {5, 12}, "correlation": {10, 15},
}

// exported is one exported name of the package.
type exported struct {
	documented bool
	// alias is the type expression of an alias, nil for everything else.
	alias ast.Expr
}

// TestExportedNamesAreDocumentedAndInExamples counts the exported names at top level. Each needs a
// doc comment and an Example.
func TestExportedNamesAreDocumentedAndInExamples(t *testing.T) {
	files := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			files[filepath.Dir(path)] = append(files[filepath.Dir(path)], path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(limits)); !slices.Equal(got, want) {
		t.Errorf("packages in %v, want a limit for each: %v", got, want)
	}
	for directory, list := range files {
		t.Run(directory, func(t *testing.T) { checkNames(t, directory, list) })
	}
}

func checkNames(t *testing.T, directory string, files []string) {
	names, shown := map[string]exported{}, map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "_test.go") {
			addExamples(file, shown)
		} else {
			addNames(file, names)
		}
	}
	if n, limit := len(names), limits[directory]; n > limit.most || n < limit.least {
		t.Errorf("the package exports %d names, want %d to %d", n, limit.least, limit.most)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !names[name].documented {
			t.Errorf("%s has no doc comment", name)
		}
		if !shown[name] {
			t.Errorf("no Example uses %s", name)
		}
		if selector, ok := names[name].alias.(*ast.SelectorExpr); ok {
			t.Errorf("%s is an alias of %s.%s: embedders cannot import an internal package", name, selector.X, selector.Sel)
		}
	}
}

// internals are what the package exports with a type of an internal package. They are for the packages
// of this module: embedders can call them, but not name what they return. The list may only shrink.
var internals = []string{
	"Check.Info", "Criteria.Metric", "Criteria.Operator", "Criteria.Value", "Metric", "metric.Info",
}

func TestNoMoreInternalTypesAreExported(t *testing.T) {
	var got []string
	for directory := range limits {
		files, err := filepath.Glob(filepath.Join(directory, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(path, "_test.go") {
				got = append(got, internalTypes(file)...)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, internals) {
		t.Errorf("exported with internal types: %q, want %q", got, internals)
	}
}

func TestInternalTypesOfAFile(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", `package p
import ("m/internal/a"; b "m/internal/c"; "m/d")
type T struct { F a.X; g a.X }
type U struct { f b.X; D d.X }
type I interface { M() b.X }
var V = []b.X{}
var W b.X
func F(d.X) {}
func G(...*b.X) {}
func (T) H() (a.X, error) { return a.X{}, nil }
func (T) h() a.X { return a.X{} }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := internalTypes(file), []string{"T", "I", "W", "G", "T.H"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// internalTypes returns the exported declarations of a file whose types name an internal package.
// Types of variables must be written down.
func internalTypes(file *ast.File) (all []string) {
	internal := map[string]bool{}
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if strings.Contains(path+"/", "/internal/") {
			name := filepath.Base(path)
			if i.Name != nil {
				name = i.Name.Name
			}
			internal[name] = true
		}
	}
	names := func(node ast.Node) (found bool) {
		ast.Inspect(node, func(n ast.Node) bool {
			if f, ok := n.(*ast.Field); ok && len(f.Names) > 0 && !slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
				return false
			}
			if s, ok := n.(*ast.SelectorExpr); ok {
				x, ok := s.X.(*ast.Ident)
				found = found || ok && internal[x.Name]
			}
			return !found
		})
		return found
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			if d.Name.IsExported() && slices.ContainsFunc(typesOf(d.Type), func(t ast.Expr) bool { return names(t) }) {
				all = append(all, name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() && names(spec.Type) {
						all = append(all, spec.Name.Name)
					}
				case *ast.ValueSpec:
					if spec.Names[0].IsExported() && spec.Type != nil && names(spec.Type) {
						all = append(all, spec.Names[0].Name)
					}
				}
			}
		}
	}
	return all
}

// typesOf returns the types of parameters and results.
func typesOf(f *ast.FuncType) (all []ast.Expr) {
	for _, list := range []*ast.FieldList{f.Params, f.Results} {
		if list != nil {
			for _, field := range list.List {
				all = append(all, field.Type)
			}
		}
	}
	return all
}

// receiver returns the name of a receiver's type.
func receiver(t ast.Expr) string {
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func TestExportedNamesOfAFile(t *testing.T) {
	source := `package p
// T is a type.
type T struct{}
type A = other.T
// The values.
const (
	B = 1
	c = 2
)
var D int
// E is a function.
func E() {}
func (T) F() {}`
	path := filepath.Join(t.TempDir(), "p.go")
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]exported{}
	addNames(file, names)
	var got []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name].documented {
			name += " documented"
		}
		if names[name].alias != nil {
			name += " alias"
		}
		got = append(got, name)
	}
	if text, want := strings.Join(got, ", "), "A alias, B documented, D, E documented, T documented"; text != want {
		t.Errorf("got %s, want %s", text, want)
	}
}

// addNames adds the names that a file exports at top level.
func addNames(file *ast.File, names map[string]exported) {
	add := func(id *ast.Ident, alias ast.Expr, docs ...*ast.CommentGroup) {
		if id.IsExported() {
			names[id.Name] = exported{
				documented: slices.ContainsFunc(docs, func(doc *ast.CommentGroup) bool { return strings.TrimSpace(doc.Text()) != "" }), alias: alias,
			}
		}
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name, nil, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					var alias ast.Expr
					if spec.Assign.IsValid() {
						alias = spec.Type
					}
					add(spec.Name, alias, spec.Doc, spec.Comment, d.Doc)
				case *ast.ValueSpec:
					for _, id := range spec.Names {
						add(id, nil, spec.Doc, spec.Comment, d.Doc)
					}
				}
			}
		}
	}
}

// addExamples adds the names that the Examples of a file use of the package that it tests.
func addExamples(file *ast.File, shown map[string]bool) {
	tested := strings.TrimSuffix(file.Name.Name, "_test")
	for _, d := range file.Decls {
		example, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(example.Name.Name, "Example") {
			continue
		}
		ast.Inspect(example, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == tested {
					shown[s.Sel.Name] = true
				}
			}
			return true
		})
	}
}
