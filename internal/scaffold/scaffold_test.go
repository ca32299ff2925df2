package scaffold

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, name := range []string{"a", "library", "my-books2", strings.Repeat("a", maxName)} {
		if err := Check(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                             "name the service",
		strings.Repeat("a", maxName+1): "at most 64 characters, and this one 65",
		"Library":                      `"Library" cannot name a service: use letters a to z`,
		"my.books":                     "cannot name a service",
		"../books":                     "cannot name a service",
		"books/new":                    "cannot name a service",
		"1st":                          "begin with a letter",
		"-lang":                        "begin with a letter",
		"bücher":                       "cannot name a service",
		"two words":                    "cannot name a service",
		"a\n":                          "cannot name a service",
		"*":                            "cannot name a service",
		"system":                       `"system" is reserved`,
	} {
		if err := Check(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// Nothing that exists is changed, and nothing half written stays.
func TestWriteOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, "books", "cobol"); err == nil || !strings.Contains(err.Error(), `"cobol": use go, node or python`) {
		t.Error(err)
	}
	file := filepath.Join(dir, "taken")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"taken", "empty"} {
		if err := Write(dir, name, "go"); err == nil || !strings.Contains(err.Error(), "exists, and nothing is overwritten") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("%q %v", text, err)
	}
	if err := Write(filepath.Join(dir, "none"), "books", "go"); err == nil {
		t.Error("no error for a folder that does not exist")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
}

// The templates leave no placeholder, and use the versions that this module is tested with.
func TestTemplates(t *testing.T) {
	own, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range Languages {
		dir := t.TempDir()
		if err := Write(dir, "books", language); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(filepath.Join(dir, "books"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < 3 {
			t.Errorf("%s: only %d files", language, len(files))
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(dir, "books", f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "{{") || strings.HasSuffix(f.Name(), suffix) {
				t.Errorf("%s: a placeholder is left", f.Name())
			}
			if f.Name() != "go.mod" {
				continue
			}
			for _, m := range regexp.MustCompile(`\t(\S+ v\S+)`).FindAllStringSubmatch(string(text), -1) {
				if !strings.Contains(string(own), m[1]) {
					t.Errorf("the template requires %s, this module another version", m[1])
				}
			}
		}
	}
}
