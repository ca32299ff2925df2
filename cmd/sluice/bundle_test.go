package main

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// looked starts a gateway with an admin port that demands a token. It returns the port's URL and
// the token's file.
func looked(t *testing.T) (url, tokenFile string) {
	t.Helper()
	tokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("s3same-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := listening(t, "--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0", "--admin-port", "-1", "--admin-token-file", tokenFile)
	return strings.TrimSuffix(c.after(`msg="admin server listening" url=`), "/"), tokenFile
}

func TestBundle(t *testing.T) {
	url, tokenFile := looked(t)
	file := filepath.Join(t.TempDir(), "b.zip")
	code, stdout, stderr := command(t, nil, "bundle", "-url", url, "-token-file", tokenFile, "-seconds", "1", "-o", file)
	if code != 0 || stderr != "" || !strings.Contains(stdout, file) {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	all := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(f.Name, "sluice-bundle/")] = string(text)
		if strings.Contains(string(text), "s3same") {
			t.Errorf("%s has the token", f.Name)
		}
	}
	for name, want := range map[string]string{
		"overview.json": `"loops": [`, "config.json": `"adminTokenFile": "`, "metrics.txt": "sluice_build_info", "goroutines.txt": "goroutine ",
		"heap.pb.gz": "", "cpu.pb.gz": "", "trace.out": "", "connections-slow.json": `"connections": []`,
	} {
		if text, ok := all[name]; !ok || text == "" || !strings.Contains(text, want) {
			t.Errorf("%s: %.200q", name, text)
		}
	}
	if text, ok := all["errors.txt"]; ok {
		t.Error(text)
	}

	// What is wrong is said, and leaves no file behind.
	other := filepath.Join(t.TempDir(), "other.zip")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-url", url, "-o", other}, 1, "adminTokenFile"},
		{[]string{"-url", "http://127.0.0.1:1", "-o", other}, 1, "must run with adminPort"},
		{[]string{"-url", url, "-token-file", tokenFile, "-o", file}, 2, "name another file"},
		{[]string{"-url", "ftp://h", "-o", other}, 2, "the URL must be like"},
		{[]string{"-token-file", "/nowhere", "-o", other}, 2, "no such file"},
		{[]string{"-seconds", "0"}, 2, "-seconds"},
		{[]string{"-cert", "a"}, 2, "belong together"},
		{[]string{"-what"}, 2, "-what"},
	} {
		code, _, stderr := command(t, nil, append([]string{"bundle"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "s3same") {
			t.Errorf("%q: exit code %d\n%s", tt.args, code, stderr)
		}
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a file was left behind")
	}
}

// Without a gateway to show, top says why and ends.
func TestTopWithoutGateway(t *testing.T) {
	url, _ := looked(t)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-url", url}, 1, "adminTokenFile"},
		{[]string{"-url", "http://127.0.0.1:1"}, 1, "must run with adminPort"},
		{[]string{"-url", "here"}, 2, "the URL must be like"},
		{[]string{"more"}, 2, "-token-file"},
		{[]string{"-h"}, 0, "-token-file"},
	} {
		code, _, stderr := command(t, nil, append([]string{"top"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: exit code %d\n%s", tt.args, code, stderr)
		}
	}
}
