package walkthrough

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// keepZips is after how long a zip is made anew.
const keepZips = 24 * time.Hour

// shareZips lets deployments with the output directory out share their zipped assets: zipping the
// functions takes seconds. The CDK CLI names a zip by its content, and moves it into place when it
// is complete.
func shareZips(out, shared string) error {
	if err := errors.Join(os.MkdirAll(out, 0o755), os.MkdirAll(shared, 0o755)); err != nil {
		return err
	}
	zips, err := os.ReadDir(shared)
	if err != nil {
		return err
	}
	for _, z := range zips {
		if info, err := z.Info(); err == nil && time.Since(info.ModTime()) > keepZips {
			_ = os.Remove(filepath.Join(shared, z.Name())) // another deployment may have been faster
		}
	}
	if err := os.Symlink(shared, filepath.Join(out, ".cache")); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
