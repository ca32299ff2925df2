package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sluice/deploy/tools/testkit"
)

// file returns the file of the release that a pattern matches.
func file(t *testing.T, r *release, pattern string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(r.out, pattern))
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %v %v", pattern, all, err)
	}
	return all[0]
}

// later returns a deb of a later version with another default file.
func later(t *testing.T) string {
	t.Helper()
	r := *made(t)
	r.out, r.version = t.TempDir(), "v1.3.0"
	r.tree = filepath.Join(t.TempDir(), "source")
	if err := os.CopyFS(r.tree, os.DirFS(made(t).tree)); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(r.tree, "deploy/packages/sluice.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, append(text, "# a later default\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.packages(runtime.GOARCH, filepath.Join(r.stage, runtime.GOARCH, "sluice")); err != nil {
		t.Fatal(err)
	}
	return file(t, &r, "*.deb")
}

// The deb is installed, upgraded, removed and purged by dpkg, on a copy of this machine that is
// thrown away: the machine stays as it is.
func TestDeb(t *testing.T) {
	t.Parallel()
	if !testkit.Installed(t, "dpkg", "unshare", "setpriv", "systemd-analyze", "man") {
		return
	}
	if os.Getuid() != 0 {
		testkit.Note(t, "left out: only root can install packages")
		return
	}
	script, err := filepath.Abs("testdata/deb.sh")
	if err != nil {
		t.Fatal(err)
	}
	before := machine(t)
	deb := file(t, made(t), "*_"+runtime.GOARCH+".deb")
	out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "--net", "sh", "testdata/root.sh", t.TempDir(), script, deb, later(t)).CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	if after := machine(t); after != before {
		t.Errorf("the machine is not as it was:\n%s\n\n%s", before, after)
	}
}

// machine describes what an installation would change.
func machine(t *testing.T) string {
	t.Helper()
	out, _ := exec.Command("sh", "-c", "ls -d /etc/sluice /usr/bin/sluice; getent passwd sluice; dpkg-query -W sluice; grep -c sluice /proc/mounts").CombinedOutput()
	return string(out)
}

// The rpm has the same files as the deb, at the places that Fedora and others have for them.
func TestRPM(t *testing.T) {
	if !testkit.Installed(t, "rpm") {
		return
	}
	r := made(t)
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	rpm := file(t, r, "*."+machine+".rpm")
	query := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", append([]string{"-qp", "--nosignature", "--dbpath", t.TempDir()}, append(args, rpm)...)...).Output()
		if err != nil {
			t.Fatalf("rpm %q: %v", args, err)
		}
		return string(out)
	}
	if got := query("--queryformat", "%{NAME} %{VERSION} %{LICENSE} %{BUILDHOST} %{ARCH}"); got != "sluice 1.2.3 MIT localhost "+machine {
		t.Error(got)
	}
	files := strings.Fields(query("--list"))
	for _, want := range []string{"/usr/bin/sluice", "/etc/sluice/sluice.yaml", "/usr/lib/systemd/system/sluice.service", "/usr/lib/systemd/system/sluice.socket",
		"/usr/share/man/man1/sluice.1.gz", "/usr/share/man/man5/sluice.yaml.5.gz", "/usr/share/bash-completion/completions/sluice",
		"/usr/share/zsh/site-functions/_sluice", "/usr/share/fish/vendor_completions.d/sluice.fish"} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is missing in %q", want, files)
		}
	}
	if got := strings.TrimSpace(query("--configfiles")); got != "/etc/sluice/sluice.yaml" {
		t.Errorf("files that an upgrade keeps: %s", got)
	}
	if got := query("--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"); !strings.Contains(got, "/etc/sluice/sluice.yaml cn\n") {
		t.Errorf("the settings are not config(noreplace):\n%s", got)
	}
	for _, want := range []string{"useradd --system", "systemctl disable --now", "systemctl daemon-reload"} {
		if !strings.Contains(query("--scripts"), want) {
			t.Errorf("the scripts lack %q", want)
		}
	}
}

// Bash completes commands, flags, values and files, and nothing after a flag that takes any value.
func TestBashCompletion(t *testing.T) {
	if !testkit.Installed(t, "bash") || runtime.GOOS != "linux" {
		return
	}
	for _, tt := range []struct {
		words []string
		want  []string
	}{
		{[]string{"sluice", "ch"}, []string{"check"}},
		{[]string{"sluice", "--nats-g"}, []string{"--nats-grace"}},
		{[]string{"sluice", "demo", "--log-f"}, []string{"--log-format"}},
		{[]string{"sluice", "--log-format", ""}, []string{"text", "json"}},
		{[]string{"sluice", "--port", ""}, nil},
		{[]string{"sluice", "-c", "testdata/ba"}, []string{"testdata/bash.sh"}},
		{[]string{"sluice", "config", "-"}, []string{"--schema"}},
		{[]string{"sluice", "completion", "z"}, []string{"zsh"}},
		{[]string{"sluice", "demo", "che"}, nil},
	} {
		if got := completions(t, tt.words...); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.words, got, tt.want)
		}
	}
}

// Zsh and fish accept their completions.
func TestOtherCompletions(t *testing.T) {
	dir := filepath.Join(made(t).stage, "completions")
	for shell, args := range map[string][]string{"zsh": {"-n", "_sluice"}, "fish": {"--no-execute", "sluice.fish"}} {
		if !testkit.Installed(t, shell) {
			continue
		}
		cmd := exec.Command(shell, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	if testkit.Installed(t, "fish") {
		cmd := exec.Command("fish", "--no-config", "-c", "source sluice.fish; complete -C 'sluice --log-format '")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), "json") || strings.Contains(string(out), "--port") {
			t.Errorf("fish: %v\n%s", err, out)
		}
	}
}
