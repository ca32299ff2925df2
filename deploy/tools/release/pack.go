package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the formats register themselves
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// packed is a file of an archive.
type packed struct {
	name string
	text []byte
	mode int64
}

// archive packs a binary with its documents, completions, units and settings.
func (r *release) archive(arch, binary string) error {
	var all []packed
	for _, f := range []struct{ name, from string }{
		{"sluice", binary},
		{"LICENSE", filepath.Join(r.tree, "LICENSE")},
		{"README.md", filepath.Join(r.tree, "README.md")},
		{"CHANGELOG.md", filepath.Join(r.tree, "CHANGELOG.md")},
		{"sluice.yaml", filepath.Join(r.tree, "deploy/packages/sluice.yaml")},
		{"man/sluice.1", filepath.Join(r.stage, "sluice.1")},
		{"man/sluice.yaml.5", filepath.Join(r.stage, "sluice.yaml.5")},
		{"completions/sluice.bash", filepath.Join(r.stage, "completions/sluice.bash")},
		{"completions/_sluice", filepath.Join(r.stage, "completions/_sluice")},
		{"completions/sluice.fish", filepath.Join(r.stage, "completions/sluice.fish")},
		{"systemd/sluice.service", filepath.Join(r.tree, "deploy/systemd/sluice.service")},
		{"systemd/sluice.socket", filepath.Join(r.tree, "deploy/systemd/sluice.socket")},
	} {
		text, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if f.from == binary {
			mode = 0o755
		}
		all = append(all, packed{r.name(arch) + "/" + f.name, text, mode})
	}
	return r.tarball(r.name(arch)+".tar.gz", all)
}

// chart packs the Helm chart, with the release's version in the place of 0.0.0.
func (r *release) chart() error {
	version := strings.TrimPrefix(r.version, "v")
	folder := filepath.Join(r.tree, "deploy/helm/sluice")
	var all []packed
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "ci": // values of tests
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if d.Name() == "Chart.yaml" {
			text = bytes.ReplaceAll(text, []byte("ersion: 0.0.0"), []byte("ersion: "+version))
		}
		name, err := filepath.Rel(folder, path)
		all = append(all, packed{"sluice/" + filepath.ToSlash(name), text, 0o644})
		return err
	})
	if err != nil {
		return err
	}
	return r.tarball("sluice-"+version+".tgz", all)
}

// client packs docs/client as "npm pack" does: the files that package.json lists, and those that
// npm always adds. It has a version of its own, which is in package.json.
func (r *release) client() error {
	folder := filepath.Join(r.tree, "docs/client")
	text, err := os.ReadFile(filepath.Join(folder, "package.json"))
	if err != nil {
		return err
	}
	var about struct {
		Name, Version string
		Files         []string
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return fmt.Errorf("package.json: %w", err)
	}
	if about.Name == "" || about.Version == "" || len(about.Files) == 0 {
		return errors.New("package.json needs a name, a version and files")
	}
	all := []packed{{"package/package.json", text, 0o644}}
	for _, name := range append([]string{"LICENSE", "README.md"}, about.Files...) {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		all = append(all, packed{"package/" + name, text, 0o644})
	}
	return r.tarball(about.Name+"-"+about.Version+".tgz", all)
}

// tarball writes an archive whose bytes depend on nothing but the files and the release's time.
func (r *release) tarball(name string, all []packed) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range all {
		head := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: r.time, Uname: "root", Gname: "root", Format: tar.FormatPAX}
		if err := t.WriteHeader(head); err != nil {
			return err
		}
		if _, err := t.Write(f.text); err != nil {
			return err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, name), b.Bytes(), 0o644)
}

// packages makes the deb and the rpm as deploy/packages/nfpm.yaml describes them.
func (r *release) packages(arch, binary string) error {
	variables := map[string]string{"ARCH": arch, "VERSION": r.version, "STAGE": r.stage, "TREE": r.tree, "BINARY": binary}
	text, err := os.ReadFile(filepath.Join(r.tree, "deploy/packages/nfpm.yaml"))
	if err != nil {
		return err
	}
	// nfpm itself expands variables only in some places.
	config, err := nfpm.Parse(strings.NewReader(os.Expand(string(text), func(name string) string { return variables[name] })))
	if err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm"} {
		info, err := config.Get(format)
		if err != nil {
			return err
		}
		info.MTime = r.time
		for _, c := range info.Contents {
			c.FileInfo.MTime = r.time
		}
		packager, err := nfpm.Get(format)
		if err != nil {
			return err
		}
		info = nfpm.WithDefaults(info)
		if err := nfpm.PrepareForPackager(info, format); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := packager.Package(info, &b); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
		if err := os.WriteFile(filepath.Join(r.out, packager.ConventionalFileName(info)), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compress writes text with gzip, without a time and a name.
func compress(to string, text []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = z.Write(text)
	if err := errors.Join(err, z.Close()); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}
