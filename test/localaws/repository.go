package localaws

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const rootModule = "github.com/defenderhub/defenderhub"

// repository is the root of this project above dir, which holds the pinned tools.
func repository(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+rootModule+"\n") {
			return at, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("the local AWS runs inside a checkout of %s, and %s is in none: set Options.Repository", rootModule, dir)
		}
	}
}
