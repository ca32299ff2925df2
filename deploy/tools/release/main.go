// Command release makes what a release consists of: for each target a static binary in an archive,
// a deb, an rpm and an SBOM, the Helm chart, the npm package sluice-client, and the checksums of
// all of them. The same commit always gives the same bytes, wherever the tree stands.
//
// It never publishes or signs anything.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// release is one run.
type release struct {
	tree    string // the source
	tools   string // the module of this command, whose tools it runs
	out     string // where the files of the release go
	version string // with a leading v
	commit  string
	time    time.Time // of everything in it: that of the commit
	arches  []string  // of linux

	stage string   // for what is packed
	env   []string // additions to the environment of the Go tool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var r release
	var arches string
	flag.StringVar(&r.tree, "tree", "../..", "source `folder`")
	flag.StringVar(&r.out, "out", "", "`folder` for the release; its contents are replaced (default bin/release of the source)")
	flag.StringVar(&r.version, "version", "", "version like v1.2.3 (default: from git's tags, or one that says that it is none)")
	flag.StringVar(&arches, "arch", "amd64,arm64", "targets")
	flag.Parse()
	r.arches = strings.Split(arches, ",")
	r.tools, _ = os.Getwd()
	err := r.fromGit(ctx)
	if err == nil {
		r.stage, err = os.MkdirTemp("", "sluice-release-")
	}
	if err == nil {
		err = errors.Join(r.run(ctx), os.RemoveAll(r.stage))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("%s (commit %s) is in %s\n", r.version, r.commit, r.out)
}

// fromGit fills in what git knows of the tree.
func (r *release) fromGit(ctx context.Context) error {
	git := func(args ...string) (string, error) {
		out, err := r.output(ctx, "git", append([]string{"-C", r.tree}, args...)...)
		return strings.TrimSpace(string(out)), err
	}
	var err error
	if r.commit, err = git("rev-parse", "HEAD"); err != nil {
		return err
	}
	changed, err := git("status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return err
	}
	seconds, err := git("log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	r.time = time.Unix(unix, 0).UTC()
	if r.version == "" {
		tag, err := git("describe", "--tags", "--exact-match", "--match", "v[0-9]*")
		if err != nil {
			tag = fmt.Sprintf("v0.0.0-dev.%s.%s", r.time.Format("20060102150405"), r.commit[:12])
		}
		r.version = tag
	}
	if changed != "" {
		r.commit += "-dirty"
	}
	return nil
}

// run makes the release.
func (r *release) run(ctx context.Context) error {
	if !strings.HasPrefix(r.version, "v") {
		return fmt.Errorf("the version %q does not begin with v", r.version)
	}
	var err error
	if r.tree, err = filepath.Abs(r.tree); err != nil {
		return err
	}
	if r.out == "" {
		r.out = filepath.Join(r.tree, "bin", "release")
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(r.out), os.MkdirAll(r.out, 0o755)); err != nil {
		return err
	}
	if err := r.documents(ctx); err != nil {
		return err
	}
	for _, arch := range r.arches {
		binary := filepath.Join(r.stage, arch, "sluice")
		for _, step := range []func() error{
			func() error { return r.build(ctx, "linux", arch, binary) },
			func() error { return r.archive(arch, binary) },
			func() error { return r.packages(arch, binary) },
			func() error { return r.sbom(ctx, arch, binary) },
		} {
			if err := step(); err != nil {
				return fmt.Errorf("linux/%s: %w", arch, err)
			}
		}
	}
	if err := r.chart(); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	if err := r.client(); err != nil {
		return fmt.Errorf("sluice-client: %w", err)
	}
	return r.checksums()
}

// build compiles the gateway without C and without paths of this machine.
func (r *release) build(ctx context.Context, goos, goarch, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", fmt.Sprintf("-s -w -buildid= -X main.stamped=%s -X main.stampedCommit=%s", r.version, r.commit),
		"-o", to, "./cmd/sluice")
	cmd.Dir = r.tree
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	cmd.Env = append(cmd.Env, r.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// documents has the gateway print its manual pages and completions.
func (r *release) documents(ctx context.Context) error {
	program := filepath.Join(r.stage, "here", "sluice")
	if err := r.build(ctx, runtime.GOOS, runtime.GOARCH, program); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.stage, "completions"), 0o755); err != nil {
		return err
	}
	for file, args := range map[string][]string{
		"sluice.1":                {"man", "1"},
		"sluice.yaml.5":           {"man", "5"},
		"completions/sluice.bash": {"completion", "bash"},
		"completions/_sluice":     {"completion", "zsh"},
		"completions/sluice.fish": {"completion", "fish"},
	} {
		text, err := r.output(ctx, program, args...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.stage, file), text, 0o644); err != nil {
			return err
		}
		if strings.HasPrefix(file, "sluice") { // as Debian has its pages
			if err := compress(filepath.Join(r.stage, file+".gz"), text); err != nil {
				return err
			}
		}
	}
	return nil
}

// sbom lists the modules of a binary, as CycloneDX in JSON.
func (r *release) sbom(ctx context.Context, arch, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp", "-std",
		"-version", r.version, "-output", filepath.Join(r.out, r.name(arch)+".cdx.json"), binary)
	cmd.Dir = r.tools
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cyclonedx-gomod: %w\n%s", err, out)
	}
	return nil
}

// checksums writes SHA256SUMS, as sha256sum -c reads it.
func (r *release) checksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	sums := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		sums[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(text))
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&lines, "%s  %s\n", sums[name], name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(lines.String()), 0o644)
}

// name is what the files of a target begin with.
func (r *release) name(arch string) string {
	return fmt.Sprintf("sluice_%s_linux_%s", strings.TrimPrefix(r.version, "v"), arch)
}

// output runs a program and returns what it prints.
func (r *release) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err)
	}
	return out, nil
}
