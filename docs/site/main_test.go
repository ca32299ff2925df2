package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes a small tree with the given text of docs/a.md, builds its site and returns the page.
func tree(t *testing.T, text string) (string, error) {
	t.Helper()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "site")
	for name, content := range map[string]string{
		"README.md": "# Home\n\n[A](docs/a.md)\n", "ARCHITECTURE.md": "# Arch\n", "CONTRIBUTING.md": "# Con\n", "CHANGELOG.md": "# Log\n", "bench/README.md": "# Bench\n", "examples/README.md": "# Ex\n",
		"docs/README.md": "# Docs\n", "docs/a.md": text, "docs/sub/b.md": "# B\n\n## `what` to *do*?\n\n## Twice\n\n## Twice\n", "docs/i.png": "png",
	} {
		if err := save(filepath.Join(from, name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := build(from, to); err != nil {
		return "", err
	}
	page, err := os.ReadFile(filepath.Join(to, "docs/a.html"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "docs/i.png")); err != nil && strings.Contains(text, "i.png") {
		t.Error(err)
	}
	return string(page), nil
}

func TestSite(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"# A & `B`", "<title>A &amp; B – Sluice</title>"},
		{"# A\n", `<a href="../index.html">Home</a>`},
		{"# A\n\n[B](sub/b.md)", `<a href="sub/b.html">B</a>`},
		{"# A\n\n[B](sub/b.md#what-to-do)", `<a href="sub/b.html#what-to-do">B</a>`},
		{"# A\n\n[B](sub/b.md#twice-1)", `<a href="sub/b.html#twice-1">B</a>`},
		{"# A\n\n[home](../README.md), [docs](README.md)", `<a href="../index.html">home</a>, <a href="index.html">docs</a>`},
		{"# A\n\nsee [`the code`](../main.go) there", "<p>see <code>the code</code> there</p>"},
		{"# A\n\n[X](https://example.com/)", `<a href="https://example.com/">X</a>`},
		{"# A\n\n<img src=\"i.png\">", `<img src="i.png">`},
		{"# A\n\n```go run\nx\n```", `<pre><code class="language-go">x`},
	} {
		page, err := tree(t, tt.text)
		if err != nil || !strings.Contains(page, tt.want) {
			t.Errorf("%q: %v, want %s in\n%s", tt.text, err, tt.want, page)
		}
	}
}

func TestBrokenSite(t *testing.T) {
	for text, want := range map[string]string{
		"# A\n\n[B](sub/b.md#none)":     "docs/a.md: the link to docs/sub/b.md#none leads nowhere",
		"# A\n\n[here](#there)":         "docs/a.md: the link to docs/a.md#there leads nowhere",
		"# A\n\n<img src=\"none.png\">": "there is no picture docs/none.png",
	} {
		if _, err := tree(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
