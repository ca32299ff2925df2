package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// copyTree copies the files that git knows to a new folder, which is the source of a release.
func copyTree(to string) error {
	list, err := exec.Command("git", "-C", "../../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join("../../..", name))
		if os.IsNotExist(err) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			return err
		}
		file := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// shared is the folder of all releases, which TestMain removes.
var shared string

func TestMain(m *testing.M) {
	if addr := os.Getenv(asClient); addr != "" {
		if hold(addr) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	var err error
	if shared, err = os.MkdirTemp("", "sluice-release-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(shared)
	os.Exit(code)
}

// arches are the targets of the tests: that of this machine, or with ALL=1 those of a release.
func arches() []string {
	if os.Getenv("ALL") != "" {
		return []string{"amd64", "arm64"}
	}
	return []string{runtime.GOARCH}
}

// makeRelease makes a release of a source in a folder of its own. The source is copied there.
func makeRelease(name string, source func(to string) error, env ...string) (*release, error) {
	dir := filepath.Join(shared, name)
	r := &release{tree: filepath.Join(dir, "source"), out: filepath.Join(dir, "out"), stage: filepath.Join(dir, "stage"), version: "v1.2.3", commit: "0123abc",
		time: time.Unix(1_700_000_000, 0).UTC(), arches: arches(), env: env}
	var err error
	if r.tools, err = os.Getwd(); err != nil {
		return nil, err
	}
	if err := source(r.tree); err != nil {
		return nil, err
	}
	return r, r.run(context.Background())
}

// first is the release that most tests look at.
var first = sync.OnceValues(func() (*release, error) { return makeRelease("first", copyTree) })

func made(t *testing.T) *release {
	t.Helper()
	r, err := first()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hashes returns the checksum of each file of a folder.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[d.Name()] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The same source gives the same bytes in another folder. With ALL=1 the second build shares no
// build cache with the first, so that everything is compiled again.
func TestReproducible(t *testing.T) {
	one := made(t)
	var env []string
	if os.Getenv("ALL") != "" {
		env = []string{"GOCACHE=" + t.TempDir()}
	}
	// The working tree may change meanwhile, so the source is that of the first.
	two, err := makeRelease("second/in/another/folder", func(to string) error { return os.CopyFS(to, os.DirFS(one.tree)) }, env...)
	if err != nil {
		t.Fatal(err)
	}
	want, got := hashes(t, one.out), hashes(t, two.out)
	if len(want) != 4*len(one.arches)+3 {
		t.Errorf("%d files, want an archive, a deb, an rpm and an SBOM of each target, the chart, the client, and the checksums: %v", len(want), want)
	}
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("%s differs", name)
		}
	}
}

func TestChecksums(t *testing.T) {
	r := made(t)
	text, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	found := hashes(t, r.out)
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if found[name] != sum {
			t.Errorf("%s has the checksum %s, not %s", name, found[name], sum)
		}
		delete(found, name)
	}
	if len(found) != 1 {
		t.Errorf("without a checksum: %v", found)
	}
}

// unpacked returns the binary of a target, out of its archive.
func unpacked(t *testing.T, arch string) string {
	t.Helper()
	r, dir := made(t), t.TempDir()
	archive := filepath.Join(r.out, r.name(arch)+".tar.gz")
	if out, err := exec.Command("tar", "-xzf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return filepath.Join(dir, r.name(arch), "sluice")
}

func TestBinaries(t *testing.T) {
	r := made(t)
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, arch := range r.arches {
		binary := unpacked(t, arch)
		f, err := elf.Open(binary)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machines[arch] {
			t.Errorf("%s is for %v", arch, f.Machine)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is not static: it has %v", arch, p.Type)
			}
		}
		_ = f.Close()
		text, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{r.tree, shared, os.Getenv("HOME") + "/"} {
			if bytes.Contains(text, []byte(path)) {
				t.Errorf("%s contains the path %s", arch, path)
			}
		}
	}
	if runtime.GOOS == "linux" {
		out, err := exec.Command(unpacked(t, runtime.GOARCH), "-v").Output()
		if err != nil || !strings.HasPrefix(string(out), "sluice v1.2.3\n") || !strings.Contains(string(out), "\ncommit 0123abc\n") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// The SBOM names the modules of go.mod that are linked, with their versions.
func TestSBOM(t *testing.T) {
	r := made(t)
	for _, arch := range r.arches {
		text, err := os.ReadFile(filepath.Join(r.out, r.name(arch)+".cdx.json"))
		if err != nil {
			t.Fatal(err)
		}
		var bom struct {
			BOMFormat string `json:"bomFormat"`
			Metadata  struct {
				Component struct{ Name, Version string }
			}
			Components []struct{ Name, Version, PURL string }
		}
		if err := json.Unmarshal(text, &bom); err != nil {
			t.Fatal(err)
		}
		if c := bom.Metadata.Component; bom.BOMFormat != "CycloneDX" || c.Name != "sluice" || c.Version != "v1.2.3" {
			t.Errorf("%s: %s of %v", arch, bom.BOMFormat, c)
		}
		versions := map[string]string{}
		for _, c := range bom.Components {
			versions[c.Name] = c.Version
		}
		mod, err := os.ReadFile(filepath.Join(r.tree, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range []string{"github.com/nats-io/nats.go", "github.com/panjf2000/gnet/v2", "github.com/nats-io/nats-server/v2"} {
			if v := versions[module]; v == "" || !strings.Contains(string(mod), module+" "+v+"\n") {
				t.Errorf("%s: %s has the version %q", arch, module, v)
			}
		}
		if versions["std"] == "" {
			t.Errorf("%s: the standard library is missing", arch)
		}
	}
}

// The chart has the version of the release.
func TestChart(t *testing.T) {
	out, err := exec.Command("tar", "-xzOf", file(t, made(t), "sluice-1.2.3.tgz"), "sluice/Chart.yaml").Output()
	if err != nil || !strings.Contains(string(out), "\nversion: 1.2.3\n") || !strings.Contains(string(out), "\nappVersion: 1.2.3\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// A wrong version is refused before anything is built.
func TestVersionWithoutV(t *testing.T) {
	r := &release{version: "1.2.3"}
	if err := r.run(context.Background()); err == nil || !strings.Contains(err.Error(), "begin with v") {
		t.Error(err)
	}
}

// completions returns what bash completes of a command line.
func completions(t *testing.T, words ...string) []string {
	t.Helper()
	file := filepath.Join(made(t).stage, "completions", "sluice.bash")
	out, err := exec.Command("bash", append([]string{"--norc", "testdata/bash.sh", file}, words...)...).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var all []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if s.Text() != "" {
			all = append(all, s.Text())
		}
	}
	return all
}
