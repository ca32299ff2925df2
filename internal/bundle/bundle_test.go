package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// broken answers with the path, but not to paths that have the text.
type broken string

func (b broken) Get(_ context.Context, path string) ([]byte, error) {
	if strings.Contains(path, string(b)) {
		return nil, errors.New("it hangs")
	}
	return []byte(path), nil
}

// What cannot be had is named, and the rest is there.
func TestProblems(t *testing.T) {
	var out bytes.Buffer
	problems, err := Write(context.Background(), &out, broken("trace"), 7)
	if err != nil || len(problems) != 1 || problems[0] != "trace.out: it hangs" {
		t.Fatal(problems, err)
	}
	z, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"errors.txt": "trace.out: it hangs\n", "cpu.pb.gz": "/debug/pprof/profile?seconds=7"} {
		f, err := z.Open("sluice-bundle/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(f); string(text) != want {
			t.Errorf("%s: %q", name, text)
		}
	}
	if len(z.File) != len(parts(7)) { // one is missing, and errors.txt is there
		t.Errorf("%d files", len(z.File))
	}
}

func TestNothing(t *testing.T) {
	if _, err := Write(context.Background(), io.Discard, broken("/"), 1); err == nil {
		t.Error("a gateway that gives nothing has a bundle")
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := Write(ended, io.Discard, broken("config"), 1); err == nil {
		t.Error("an interrupted bundle is whole")
	}
}
