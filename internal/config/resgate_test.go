package config

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With -resgate the recorded verdicts are compared with the real Resgate's, with
// -update they are replaced by them. "make resgate-table" builds the program.
var (
	resgateProgram = flag.String("resgate", "", "Resgate with testdata/verdict.go.txt: compare the table with it")
	resgateUpdate  = flag.Bool("update", false, "with -resgate: write its verdicts into the table")
)

// resgateRow is a variant of a command line and a configuration file, what
// Resgate 1.8.0 makes of it, and how Sluice differs, if it does on purpose.
type resgateRow struct {
	Args   []string       `json:"args,omitempty"` // FILE stands for the configuration file
	File   *string        `json:"file,omitempty"` // what is in it; none: it is missing
	Hex    bool           `json:"hex,omitempty"`  // File is in hexadecimal
	Starts bool           `json:"starts"`         // Resgate starts
	Values map[string]any `json:"values"`         // its settings that are not at their default

	// Differs is a piece of CHANGELOG.md that says how Sluice differs where Resgate
	// starts: it does not start, or the values of Ours are others.
	Differs string         `json:"differs,omitempty"`
	Refuses bool           `json:"refuses,omitempty"`
	Ours    map[string]any `json:"ours,omitempty"`
}

const resgateTable = "testdata/resgate.json"

func readTable(t *testing.T) []resgateRow {
	t.Helper()
	text, err := os.ReadFile(resgateTable)
	if err != nil {
		t.Fatal(err)
	}
	var rows []resgateRow
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// commandLine writes the row's file and returns its arguments.
func (r *resgateRow) commandLine(t *testing.T) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resgate.json")
	if r.File != nil {
		text := []byte(*r.File)
		if r.Hex {
			text = unhex(t, *r.File)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, a := range r.Args {
		args = append(args, strings.ReplaceAll(a, "FILE", path))
	}
	if r.File != nil && !slices.ContainsFunc(r.Args, func(a string) bool { return strings.Contains(a, "FILE") }) {
		args = append([]string{"-c", path}, args...)
	}
	return args
}

func (r *resgateRow) name() string {
	name := strings.Join(r.Args, " ")
	if r.File != nil {
		name += " " + *r.File
	}
	return name
}

// Whatever file and command line Resgate 1.8.0 starts with, Sluice starts with,
// meaning the same. The exceptions are those of CHANGELOG.md.
func TestWhatResgateStartsWith(t *testing.T) {
	changelog, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, differences, _ := strings.Cut(string(changelog), "### Differences from Resgate 1.8")
	differences = strings.Join(strings.Fields(differences), " ")
	for _, r := range readTable(t) {
		t.Run(r.name(), func(t *testing.T) {
			s, err := Load(r.commandLine(t), nil)
			if r.Differs != "" && !strings.Contains(differences, r.Differs) {
				t.Errorf("CHANGELOG.md does not say among the differences from Resgate: %q", r.Differs)
			}
			if r.Refuses != (err != nil) && r.Starts || r.Refuses && r.Differs == "" {
				t.Fatalf("Sluice: %v; Resgate starts: %v, with a difference that the CHANGELOG explains: %v", err, r.Starts, r.Refuses)
			}
			if err != nil || !r.Starts {
				return
			}
			want := r.Values
			if r.Ours != nil {
				if want = r.Ours; r.Differs == "" {
					t.Error("the values differ without a reason")
				}
			}
			if diff := cmp.Diff(want, ourValues(t, s.Config)); diff != "" {
				t.Errorf("Resgate's settings (-) and Sluice's (+), without those at their default:\n%s", diff)
			}
		})
	}
}

// The recorded verdicts are Resgate's. This needs its program, so it is not among
// what every change must pass: see "make resgate-table".
func TestResgateTableIsTrue(t *testing.T) {
	if *resgateProgram == "" {
		return
	}
	rows := readTable(t)
	for i := range rows {
		r := &rows[i]
		out, err := exec.Command(*resgateProgram, r.commandLine(t)...).Output()
		starts, values := err == nil, map[string]any{}
		if starts {
			var all map[string]any
			if err := json.Unmarshal(out, &all); err != nil {
				t.Fatalf("%s: %v\n%s", r.name(), err, out)
			}
			values = notDefault(t, all)
		}
		if *resgateUpdate {
			r.Starts, r.Values = starts, values
			continue
		}
		if diff := cmp.Diff(r.Values, values); starts != r.Starts || diff != "" {
			t.Errorf("%s: Resgate starts: %v, recorded: %v\n%s", r.name(), starts, r.Starts, diff)
		}
	}
	if *resgateUpdate {
		var b bytes.Buffer
		b.WriteString("[\n")
		for i, r := range rows {
			var line bytes.Buffer
			enc := json.NewEncoder(&line)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(r); err != nil {
				t.Fatal(err)
			}
			b.Write(bytes.TrimSpace(line.Bytes()))
			if i < len(rows)-1 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString("]\n")
		if err := os.WriteFile(resgateTable, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// ourValues returns a configuration's settings under the names that Resgate
// writes.
func ourValues(t *testing.T, c Config) map[string]any {
	t.Helper()
	c = c.WithDefaults()
	all := map[string]any{}
	for i := range settings {
		key := settings[i].key
		if slices.Contains([]string{"tlsCert", "tlsKey"}, key) {
			key = settings[i].aliases[0].key
		}
		all[key] = settings[i].toJSON(&c)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	all = nil
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return notDefault(t, all)
}

// notDefault reduces settings to those of Resgate that are not at their default,
// in a form that does not depend on how the same meaning was written.
func notDefault(t *testing.T, all map[string]any) map[string]any {
	t.Helper()
	defaults := map[string]any{
		"natsUrl": "nats://127.0.0.1:4222", "natsCreds": "", "natsCert": "", "natsKey": "", "natsRootCAs": "", "requestTimeout": 3000.0,
		"bufferSize": 8192.0, "debug": false, "trace": false, "addr": "0.0.0.0", "port": 8080.0, "wsPath": "/", "apiPath": "/api/", "metricsPort": 0.0,
		"apiEncoding": "json", "headerAuth": "", "wsHeaderAuth": "", "allowOrigin": "*", "putMethod": "", "deleteMethod": "", "patchMethod": "",
		"tls": false, "certFile": "", "keyFile": "", "wsCompression": false, "resetThrottle": 0.0, "referenceThrottle": 0.0,
	}
	unique := func(list []string) string {
		slices.Sort(list)
		return strings.Join(slices.Compact(list), ";")
	}
	out := map[string]any{}
	for key, def := range defaults {
		v := all[key]
		switch x := v.(type) {
		case nil:
			v = ""
		case []any:
			var list []string
			for _, s := range x {
				list = append(list, s.(string))
			}
			v = unique(list)
		case float64:
			if strings.HasSuffix(key, "Throttle") {
				v = max(x, 0) // a limit below 1 is none
			}
		case string:
			switch key {
			case "apiEncoding":
				v = strings.ToLower(x)
			case "allowOrigin":
				v = unique(strings.Split(strings.ToLower(x), ";"))
			case "apiPath":
				v = strings.TrimSuffix(x, "/") + "/"
			}
		}
		if v != def {
			out[key] = v
		}
	}
	return out
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
