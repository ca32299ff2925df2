package config

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaOf compiles the schema with a validator that is not ours.
func schemaOf(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("sluice.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sluice.json") // validates it against the schema of schemas, too
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a file as a validator sees it.
func instance(t *testing.T, text []byte, yaml bool) any {
	t.Helper()
	all, err := entries(text, yaml)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]json.RawMessage{}
	for _, e := range all {
		members[e.key] = e.value
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(jsonOf(members)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The schema and the reader agree on single values.
func TestSchema(t *testing.T) {
	schema := schemaOf(t)
	for _, text := range []string{
		`{}`, `{"port": 81}`, `{"port": -1}`, `{"port": 65536}`, `{"port": "81"}`, `{"port": 8.5}`, `{"port": null}`, `{"nope": 1}`,
		`{"headTimeout": 1500}`, `{"headTimeout": "1.5s"}`, `{"headTimeout": "30m0.5s"}`, `{"headTimeout": "soon"}`, `{"headTimeout": "500"}`, `{"headTimeout": ""}`,
		`{"headTimeout": 0}`, `{"headTimeout": 99}`, `{"headTimeout": 3600000}`, `{"headTimeout": 3600001}`, `{"headTimeout": -5}`, `{"headTimeout": true}`,
		`{"pingInterval": 0}`, `{"pingInterval": "0"}`, `{"pingInterval": 1}`, `{"requestTimeout": 0}`, `{"requestTimeout": 99999999999}`, `{"requestTimeout": -1}`,
		`{"resetThrottle": -5}`, `{"bufferSize": 0}`, `{"bufferSize": -1}`, `{"bufferSize": 99999999999}`, `{"maxPending": 0}`, `{"maxPending": 1}`, `{"httpCompression": 0}`, `{"httpCompression": -1}`,
		`{"debug": true}`, `{"debug": "true"}`, `{"debug": 1}`, `{"natsRootCAs": []}`, `{"natsRootCAs": ["a"]}`, `{"natsRootCAs": [1]}`, `{"natsRootCAs": "a"}`,
		`{"flush": "auto"}`, `{"flush": "send"}`, `{"flush": null}`, `{"flush": ""}`, `{"logFormat": 1}`, `{"allowOrigin": ""}`, `{"allowOrigin": "*"}`, `{"addr": ""}`, `{"headerAuth": null}`, `{"certFile": "c"}`, `{"keyFile": 1}`,
	} {
		_, err := Check([]string{"-c", writeFile(t, text)}, nil)
		if invalid := schema.Validate(instance(t, []byte(text), false)); (invalid == nil) != (err == nil) {
			t.Errorf("%s: the schema says %v, the reader %v", text, invalid, err)
		}
	}
	for _, text := range [][]byte{encodeFile(Config{}), []byte(strings.ToLower(`{}`))} {
		if err := schema.Validate(instance(t, text, false)); err != nil {
			t.Error(err)
		}
	}
	if err := schema.Validate(instance(t, Commented(), true)); err != nil {
		t.Error(err)
	}
	var whole struct {
		Properties map[string]struct {
			Description string
			Deprecated  bool
		}
	}
	if err := json.Unmarshal(Schema(), &whole); err != nil {
		t.Fatal(err)
	}
	aliases := 0
	for i := range settings {
		if whole.Properties[settings[i].key].Description == "" {
			t.Errorf("%s is not described", settings[i].key)
		}
		for _, a := range settings[i].aliases {
			aliases++
			if whole.Properties[a.key].Deprecated != a.deprecated {
				t.Errorf("%s: deprecated is %v", a.key, !a.deprecated)
			}
		}
	}
	if len(whole.Properties) != len(settings)+aliases {
		t.Errorf("%d properties of %d settings and %d aliases", len(whole.Properties), len(settings), aliases)
	}
}

// What Resgate starts with is valid by the schema where Sluice takes it without a warning.
func TestSchemaOfResgatesFile(t *testing.T) {
	schema := schemaOf(t)
	valid := 0
	for _, r := range readTable(t) {
		if !r.Starts || r.Refuses || r.File == nil || r.Hex {
			continue
		}
		var members map[string]json.RawMessage
		if json.Unmarshal([]byte(*r.File), &members) != nil {
			continue
		}
		for key, value := range members {
			if key == "apiEncoding" && strings.ToLower(string(value)) != string(value) {
				members = nil // a name in another case
				break
			}
			if s, _ := settingByKey(key); s != nil && s.key != key && s.aliases == nil {
				members = nil // a key in another case
				break
			}
		}
		if _, err := Check([]string{"-c", writeFile(t, *r.File)}, nil); err != nil || members == nil {
			continue
		}
		valid++
		if err := schema.Validate(instance(t, []byte(*r.File), false)); err != nil {
			t.Errorf("%s: %v", *r.File, err)
		}
	}
	if valid < 20 {
		t.Errorf("only %d files compared", valid)
	}
}
