package defenderhub

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"

	"github.com/defenderhub/defenderhub/defender"
)

// The packages of the functions below lambda/.
const (
	forwarderFunction  = "forwarder"
	startAuditFunction = "startaudit"
	evaluatorFunction  = "evaluator"
)

// bootstrap is the name of the executable that Lambda runs.
const bootstrap = "bootstrap"

// compiled are the functions that this process has built: their source does not change while it
// runs.
var compiled struct {
	sync.Mutex
	assets map[Architecture]map[string]asset // by name
}

// asset is a directory to deploy and the hash of its content.
type asset struct{ dir, hash string }

// functionCode is the asset of the function name: prebuilt is the path that the prop Prebuilt
// has, "" to compile the function.
func functionCode(name string, arch Architecture, prebuilt string) (awslambda.Code, error) {
	executable, err := functionExecutable(name, arch, prebuilt)
	if err != nil {
		return nil, err
	}
	if prebuilt == "" {
		return asset{filepath.Dir(executable), filepath.Base(filepath.Dir(executable))}.code(), nil
	}
	made, err := stage(executable, "", nil)
	if err != nil {
		return nil, &defender.FieldError{Field: "Prebuilt", Value: prebuilt, Want: fmt.Sprintf("a program that can be copied: %v", err)}
	}
	return made.code(), nil
}

// functionExecutable is the path of the program of the function name. Without a prebuilt one it
// is built from this module's source, with this module's dependencies, whatever module and
// settings the caller has. Its faults name the prop Prebuilt.
func functionExecutable(name string, arch Architecture, prebuilt string) (string, error) {
	if strings.HasSuffix(prebuilt, zipped) {
		executable, err := unzip(prebuilt)
		if err != nil {
			return "", &defender.FieldError{Field: "Prebuilt", Value: prebuilt, Want: fmt.Sprintf("a zip that holds an executable named %s: %v", bootstrap, err)}
		}
		return executable, nil
	}
	if prebuilt != "" {
		return prebuilt, nil
	}
	all, err := compileOnce(arch, name)
	if err != nil {
		return "", compileFault("Prebuilt", "the path of a prebuilt executable or zip", name, err)
	}
	return filepath.Join(all[name].dir, bootstrap), nil
}

// zipped ends the names of the files of a release.
const zipped = ".zip"

// prebuilt reports a prebuilt function that is not there.
func (f *faults) prebuilt(field, path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		f.add(field, path, "the path of an executable or zip that is there, or empty to compile it")
	}
}

// maxExecutable is the quota of AWS Lambda for an unzipped package.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxExecutable = 250 << 20

// unzip extracts the executable of a zip and returns its path.
func unzip(path string) (string, error) {
	files, err := zip.OpenReader(path)
	if err != nil {
		return "", err
	}
	defer files.Close()
	program, err := files.Open(bootstrap)
	if err != nil {
		return "", err
	}
	defer program.Close()
	dir, err := os.MkdirTemp("", "defenderhub-zip-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	extracted := filepath.Join(dir, bootstrap)
	out, err := os.OpenFile(extracted, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return "", err
	}
	size, err := io.Copy(out, io.LimitReader(program, maxExecutable+1))
	if err := errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	if size > maxExecutable {
		return "", fmt.Errorf("%s has more than the %d MB that Lambda takes", bootstrap, maxExecutable>>20)
	}
	made, err := stage(extracted, "", nil)
	return filepath.Join(made.dir, bootstrap), err
}

func compileFault(field, instead, name string, err error) error {
	want := instead + ", because lambda/%s does not compile here: %v"
	if errors.Is(err, exec.ErrNotFound) {
		want = instead + ", or Go on PATH to compile lambda/%s: %v"
	}
	return &defender.FieldError{Field: field, Want: fmt.Sprintf(want, name, err)}
}

// code returns the asset for the CDK.
func (a asset) code() awslambda.Code {
	return awslambda.Code_FromAsset(new(a.dir), &awss3assets.AssetOptions{
		AssetHashType: awscdk.AssetHashType_CUSTOM, AssetHash: new(a.hash),
	})
}

// stage is an asset of an executable and, where name is not empty, a file beside it. What is in
// them alone makes its hash.
func stage(executable, name string, content []byte) (asset, error) {
	program, err := hashFile(executable)
	if err != nil {
		return asset{}, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", program, name, content))
	hash := hex.EncodeToString(sum[:])
	cache, err := cacheDir()
	if err != nil {
		return asset{}, err
	}
	home := filepath.Join(cache, "with-file")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return asset{}, err
	}
	dir := filepath.Join(home, hash)
	defer prune(home, dir)
	if _, err := os.Stat(dir); err == nil {
		return asset{dir, hash}, nil
	}
	staged, err := os.MkdirTemp(home, staging)
	if err != nil {
		return asset{}, err
	}
	defer os.RemoveAll(staged)
	if err := copyFile(executable, filepath.Join(staged, bootstrap)); err != nil {
		return asset{}, err
	}
	if name != "" {
		if err := os.WriteFile(filepath.Join(staged, name), content, 0o644); err != nil {
			return asset{}, err
		}
	}
	if err := os.Chmod(staged, 0o755); err != nil {
		return asset{}, err
	}
	if err := os.Rename(staged, dir); err != nil {
		if _, lost := os.Stat(dir); lost != nil {
			return asset{}, err
		} // another synthesis created the same asset at the same time
	}
	return asset{dir, hash}, nil
}

// compileTogether builds functions with one go command, which takes hardly longer than one
// function: they share most packages. compile then finds them built. A failure here is repeated
// and reported there.
func compileTogether(arch Architecture, names ...string) {
	_, _ = compileOnce(arch, names...)
}

// compileOnce builds the functions that this process has not built yet.
func compileOnce(arch Architecture, names ...string) (map[string]asset, error) {
	compiled.Lock()
	defer compiled.Unlock()
	if compiled.assets == nil {
		compiled.assets = map[Architecture]map[string]asset{}
	}
	if compiled.assets[arch] == nil {
		compiled.assets[arch] = map[string]asset{}
	}
	known := compiled.assets[arch]
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := known[name]; return ok })
	if len(missing) == 0 {
		return known, nil
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		return nil, err
	}
	caches, remove, err := goCaches()
	if err != nil {
		return nil, err
	}
	defer remove()
	source, err := moduleSource(goTool, caches)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	built, err := build{goTool: goTool, module: source, cache: cache, functions: missing, goarch: arch.goarch(), caches: caches}.run()
	if err != nil {
		return nil, err
	}
	maps.Copy(known, built)
	return known, nil
}

// build is one run of go build.
type build struct {
	goTool    string
	module    string // directory of this module
	cache     string
	functions []string // packages below lambda/
	goarch    string
	caches    []string // variables of goCaches
}

// run builds each function into a directory named by the hash of its content. It puts the last
// outputs into place first, because go build does not relink an executable whose build ID is up
// to date. It never overwrites a directory that another synthesis may be reading.
func (b build) run() (map[string]asset, error) {
	home := filepath.Join(b.cache, b.goarch+"-"+digest(b.module))
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	// The compiler also leaves its files in the temporary directory if a synthesis is
	// interrupted.
	work, err := os.MkdirTemp("", "defenderhub-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	// The slash makes it a directory, even if go build has only one package.
	arguments := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=lambda.norpc", "-ldflags=-s -w", "-o", work + string(filepath.Separator)}
	for _, name := range b.functions {
		arguments = append(arguments, "./lambda/"+name)
		// go build creates whatever is missing.
		if last, err := os.ReadFile(lastOf(home, name)); err == nil {
			if err := copyFile(filepath.Join(home, string(last), bootstrap), filepath.Join(work, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
	}
	command := exec.Command(b.goTool, arguments...)
	command.Dir = b.module
	command.Env = append(buildEnvironment(os.Environ(), b.goarch), b.caches...)
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build of %s in %s: %w\n%s", strings.Join(b.functions, ", "), b.module, err, strings.TrimSpace(string(output)))
	}
	assets := map[string]asset{}
	for _, name := range b.functions {
		if assets[name], err = keep(home, work, name); err != nil {
			return nil, err
		}
	}
	return assets, nil
}

// lastOf returns the file with the hash of a function's last output.
func lastOf(home, name string) string { return filepath.Join(home, "last-"+name) }

// keep makes an asset of the executable name in work, and records it as the last.
func keep(home, work, name string) (asset, error) {
	target := filepath.Join(work, name)
	hash, err := hashFile(target)
	if err != nil {
		return asset{}, err
	}
	dir := filepath.Join(home, hash)
	defer prune(home, dir)
	if _, err := os.Stat(filepath.Join(dir, bootstrap)); err != nil {
		staged, err := os.MkdirTemp(home, staging)
		if err != nil {
			return asset{}, err
		}
		defer os.RemoveAll(staged)
		if err := copyFile(target, filepath.Join(staged, bootstrap)); err != nil {
			return asset{}, err
		}
		if err := os.Chmod(staged, 0o755); err != nil {
			return asset{}, err
		}
		if err := os.Rename(staged, dir); err != nil {
			if _, lost := os.Stat(filepath.Join(dir, bootstrap)); lost != nil {
				return asset{}, err
			} // another synthesis built the same at the same time
		}
	}
	// A synthesis that reads a half-written hash finds no such output, and builds.
	return asset{dir, hash}, os.WriteFile(lastOf(home, name), []byte(hash), 0o644)
}

// staging is the prefix of directories in the cache with unfinished outputs.
const staging = "build-"

// prune removes outputs that no synthesis has used for a month and unfinished outputs of
// interrupted syntheses, and marks used as used.
func prune(home, used string) {
	now := time.Now()
	_ = os.Chtimes(used, now, now)
	entries, _ := os.ReadDir(home)
	for _, e := range entries {
		kept := 30 * 24 * time.Hour
		if strings.HasPrefix(e.Name(), staging) {
			kept = time.Hour
		}
		if info, err := e.Info(); err == nil && e.IsDir() && now.Sub(info.ModTime()) > kept {
			_ = os.RemoveAll(filepath.Join(home, e.Name()))
		}
	}
}

// buildEnvironment returns the caller's environment without settings that would change the output
// or select another module. An empty value would let "go env -w" apply, so each is set.
func buildEnvironment(caller []string, goarch string) []string {
	fixed := map[string]string{
		"GOOS": "linux", "GOARCH": goarch, "GOARM64": "v8.0", "GOAMD64": "v1", "CGO_ENABLED": "0",
		"GOFLAGS": "-mod=readonly", "GOWORK": "off", "GO111MODULE": "on", "GOTOOLCHAIN": "auto", "GOFIPS140": "off",
	}
	dropped := map[string]bool{"GOEXPERIMENT": true, "GODEBUG": true, "GOROOT": true, "PWD": true}
	var env []string
	for _, pair := range caller {
		name, _, _ := strings.Cut(pair, "=")
		if _, ok := fixed[name]; !ok && !dropped[name] {
			env = append(env, pair)
		}
	}
	for name, value := range fixed {
		env = append(env, name+"="+value)
	}
	return env
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
