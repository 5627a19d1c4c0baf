package gobuild

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxExecutable is the quota of AWS Lambda for an unzipped package.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxExecutable = 250 << 20

// Unzip extracts the executable of a zip and returns its path.
func Unzip(path string) (string, error) {
	files, err := zip.OpenReader(path)
	if err != nil {
		return "", err
	}
	defer files.Close()
	program, err := files.Open(Bootstrap)
	if err != nil {
		return "", err
	}
	defer program.Close()
	dir, err := os.MkdirTemp("", "defenderhub-zip-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	extracted := filepath.Join(dir, Bootstrap)
	out, err := os.OpenFile(extracted, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return "", err
	}
	size, err := io.Copy(out, io.LimitReader(program, maxExecutable+1))
	if err := errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	if size > maxExecutable {
		return "", fmt.Errorf("%s is larger than %d MB, Lambda's limit", Bootstrap, maxExecutable>>20)
	}
	made, err := Stage(extracted, "", nil)
	return filepath.Join(made.Dir, Bootstrap), err
}

// Stage returns an asset of an executable and, if name is not empty, of a file beside it. The hash
// depends only on their contents and on name.
func Stage(executable, name string, content []byte) (Asset, error) {
	program, err := hashFile(executable)
	if err != nil {
		return Asset{}, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", program, name, content))
	hash := hex.EncodeToString(sum[:])
	cache, err := cacheDir()
	if err != nil {
		return Asset{}, err
	}
	home := filepath.Join(cache, "with-file")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return Asset{}, err
	}
	dir := filepath.Join(home, hash)
	defer prune(home, dir)
	if _, err := os.Stat(dir); err == nil {
		return Asset{dir, hash}, nil
	}
	staged, err := os.MkdirTemp(home, staging)
	if err != nil {
		return Asset{}, err
	}
	defer os.RemoveAll(staged)
	if err := copyFile(executable, filepath.Join(staged, Bootstrap)); err != nil {
		return Asset{}, err
	}
	if name != "" {
		if err := os.WriteFile(filepath.Join(staged, name), content, 0o644); err != nil {
			return Asset{}, err
		}
	}
	if err := os.Chmod(staged, 0o755); err != nil {
		return Asset{}, err
	}
	if err := os.Rename(staged, dir); err != nil {
		if _, lost := os.Stat(dir); lost != nil {
			return Asset{}, err
		} // another synthesis created the same asset at the same time
	}
	return Asset{dir, hash}, nil
}
