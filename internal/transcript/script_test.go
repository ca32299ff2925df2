package transcript_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/transcript"
)

var language = &transcript.Language{
	Actors: []string{"client"},
	Blocks: []string{"repeat"},
	Verbs:  []string{"advance"},
	Keep:   []string{"client holds"},
}

func TestParse(t *testing.T) {
	s, err := language.Parse("x", `# a comment
set Port 8080

client a > {"id":1,
  "method":"x"}
client b holds test.a {}
  more
repeat 2
service < get.test.a {}

advance 5s
end
each name value
  a 1
  b 2
do
service > event.test.$name.x $value
end
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Settings["Port"] != "8080" || len(s.Steps) != 4 {
		t.Fatalf("settings %v, %d steps", s.Settings, len(s.Steps))
	}
	for i, want := range []transcript.Step{
		{Line: 4, Lines: 2, Verb: "client >", Actor: "a", Arg: `{"id":1, "method":"x"}`},
		{Line: 6, Lines: 2, Verb: "client holds", Actor: "b", Arg: "test.a {}"},
		{Line: 8, Lines: 1, Verb: "repeat", Arg: "2"},
		{Line: 13, Lines: 3, Verb: "each", Arg: "name value"},
	} {
		got := s.Steps[i]
		if got.Line != want.Line || got.Lines != want.Lines || got.Verb != want.Verb || got.Actor != want.Actor || got.Arg != want.Arg {
			t.Errorf("step %d is %+v, want %+v", i, got, want)
		}
	}
	if more := s.Steps[1].More; len(more) != 1 || more[0] != "more" {
		t.Errorf("continuation %q", more)
	}
	if body := s.Steps[2].Body; len(body) != 2 || body[0].Verb != "service <" || body[1].Verb != "advance" {
		t.Errorf("block %+v", body)
	}
	if each := s.Steps[3]; len(each.Values) != 2 || each.Values[1] != "b 2" || len(each.Body) != 1 {
		t.Errorf("each %+v", each)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"clint a > x":          `x:1: unknown verb "clint"`,
		"advance 1s\nset a b":  "x:2: set needs",
		"set a":                "x:1: set needs",
		"set a \nadvance 1s":   "x:1: set needs",
		"client a":             "x:1: client needs a name and a verb",
		"end":                  `x:1: "end" without a block`,
		"repeat 3\nadvance 1s": "x:1: repeat without end",
		"  indented":           "x:1: a continuation of nothing",
		"each v\ndo\nend":      "x:1: each needs its values",
		"each v\n  1\nend":     "x:1: each needs its values",
	} {
		if _, err := language.Parse("x", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// Save changes the lines of the edited steps only.
func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.txt")
	text := "# kept\nadvance 1s\n\nclient a < {\"a\":1,\n  \"b\":2}\nadvance 2s\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := language.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s.InsertAfter(&s.Steps[2], "client a < 2")
	s.Replace(&s.Steps[1], `client a < {"a":1}`)
	s.InsertAfter(&s.Steps[0], "client a < 0", "client a < 1")
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# kept\nadvance 1s\nclient a < 0\nclient a < 1\n\nclient a < {\"a\":1}\nadvance 2s\nclient a < 2\n"
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
