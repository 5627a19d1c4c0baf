package cloudwatch

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// Tail reads log files on from where it was. Its zero value begins at their beginning.
type Tail struct{ read map[string]int64 }

// Lines returns the complete lines of a file that were added since the last call. A
// file that is not there yet has none.
func (t *Tail) Lines(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(t.read[path], io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	if t.read == nil {
		t.read = map[string]int64{}
	}
	t.read[path] += int64(len(text))
	if len(text) == 0 {
		return nil, nil
	}
	return bytes.Split(text[:len(text)-1], []byte("\n")), nil
}
