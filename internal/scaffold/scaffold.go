// Package scaffold writes the files of a new service: what "sluice service new" does.
//
// It owns the templates and the rules for names. It runs nothing and uses no network.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed templates
var templates embed.FS

// Languages are those that a service can be written in.
var Languages = []string{"go", "node", "python"}

// suffix of templates that Go's tools must not take for files of this module.
const suffix = ".tmpl"

// mark is the placeholder for the service's name in the templates.
const mark = "{{name}}"

// maxName bounds a name in bytes. Resource names and file names may be longer.
const maxName = 64

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Check returns what is wrong with the name of a new service. A name begins every resource name of
// the service, and with them subjects on NATS, and names the folder and its Go module or npm
// package.
func Check(name string) error {
	switch {
	case name == "":
		return errors.New("name the service, as in: sluice service new library")
	case len(name) > maxName:
		return fmt.Errorf("the name of a service has at most %d characters, and this one %d: choose a shorter one", maxName, len(name))
	case !validName.MatchString(name):
		return fmt.Errorf("%q cannot name a service: use letters a to z, digits and hyphens, and begin with a letter", name)
	case name == "system":
		return errors.New(`"system" is reserved by the protocol: choose another name for the service`)
	}
	return nil
}

// Write writes a service of that name into a new folder of that name below dir, in one of
// Languages. It returns an error, and leaves everything as it was, if the name or language is wrong
// or the folder exists.
func Write(dir, name, language string) error {
	if err := Check(name); err != nil {
		return err
	}
	if !slices.Contains(Languages, language) {
		return fmt.Errorf("there is no template for the language %q: use %s", language, strings.Join(Languages[:len(Languages)-1], ", ")+" or "+Languages[len(Languages)-1])
	}
	folder := filepath.Join(dir, name)
	if err := os.Mkdir(folder, 0o755); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists, and nothing is overwritten: choose another name, or work in another folder", folder)
	} else if err != nil {
		return err
	}
	if err := fill(folder, name, "templates/"+language); err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	return nil
}

// fill writes the files of a template into a folder.
func fill(folder, name, template string) error {
	files, err := templates.ReadDir(template)
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := templates.ReadFile(template + "/" + f.Name())
		if err != nil {
			return err
		}
		path := filepath.Join(folder, strings.TrimSuffix(f.Name(), suffix))
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), mark, name)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
