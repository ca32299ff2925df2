package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/deploy/tools/testkit"
)

// clientPackage returns the npm package's archive, and the files in it.
func clientPackage(t *testing.T) (archive string, files []string) {
	t.Helper()
	archive = file(t, made(t), "sluice-client-*.tgz")
	out, err := exec.Command("tar", "-tzf", archive).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(name, "package/") {
			t.Errorf("%s is not below package/", name)
		}
		files = append(files, strings.TrimPrefix(name, "package/"))
	}
	slices.Sort(files)
	return archive, files
}

// The package has the files that package.json lists, those that npm always packs, and no other.
func TestClientPackage(t *testing.T) {
	archive, files := clientPackage(t)
	text, err := exec.Command("tar", "-xzOf", archive, "package/package.json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var about struct {
		Version, Main, Types string
		Files                []string
	}
	if err := json.Unmarshal(text, &about); err != nil {
		t.Fatal(err)
	}
	if want := "sluice-client-" + about.Version + ".tgz"; filepath.Base(archive) != want {
		t.Errorf("the archive is %s, want %s", filepath.Base(archive), want)
	}
	want := append([]string{"LICENSE", "README.md", "package.json"}, about.Files...)
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Errorf("files %q, want %q", files, want)
	}
	for _, entry := range []string{about.Main, about.Types} {
		if !slices.Contains(files, strings.TrimPrefix(entry, "./")) {
			t.Errorf("%s is not packed", entry)
		}
	}
}

// npm packs the same files, and installs the archive without a registry. Node then finds the
// module.
func TestClientPackageWithNPM(t *testing.T) {
	if !testkit.Installed(t, "npm", "node") {
		return
	}
	archive, files := clientPackage(t)
	dir := t.TempDir()
	run := func(dir, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "npm_config_cache="+filepath.Join(shared, "npm"))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, &stderr)
		}
		return strings.TrimSpace(string(out))
	}

	var packs []struct {
		Filename string
		Files    []struct{ Path string }
	}
	if err := json.Unmarshal([]byte(run(filepath.Join(made(t).tree, "docs/client"), "npm", "pack", "--dry-run", "--json")), &packs); err != nil || len(packs) != 1 {
		t.Fatal(err, packs)
	}
	var want []string
	for _, f := range packs[0].Files {
		want = append(want, f.Path)
	}
	slices.Sort(want)
	if !slices.Equal(files, want) || filepath.Base(archive) != packs[0].Filename {
		t.Errorf("%s has %q, npm pack makes %s with %q", filepath.Base(archive), files, packs[0].Filename, want)
	}

	run(dir, "npm", "install", "--offline", "--no-audit", "--no-fund", archive)
	got := run(dir, "node", "--input-type=module", "-e", `
		import { Client, dialer } from "sluice-client";
		const client = new Client("ws://localhost:1/", { WebSocket: class {} });
		console.log(client.url, typeof dialer, import.meta.resolve("sluice-client"));`)
	if !strings.HasPrefix(got, "ws://localhost:1/ function file://") || !strings.HasSuffix(got, "/node_modules/sluice-client/client.js") {
		t.Errorf("Node has %q", got)
	}
}
