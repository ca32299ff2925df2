package state

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"sluice/internal/res"
)

func modelOf(keys ...string) *Snapshot {
	var props []res.Prop
	for _, key := range keys {
		props = append(props, res.Prop{Key: key, Value: res.Value{Kind: res.Primitive, Raw: "1"}})
	}
	return NewModel(props)
}

// Models with the same keys share them, and no text of a model is kept for its keys.
func TestKeysAreShared(t *testing.T) {
	text := "activeidname"
	a := modelOf(text[:6], text[6:8], text[8:])
	b := modelOf("name", "id", "active") // sorted first
	c := modelOf("active", "id", "price")
	if &a.root.keys[0] != &b.root.keys[0] {
		t.Error("the keys of two models of one kind are not shared")
	}
	if unsafe.StringData(a.root.keys[0]) == unsafe.StringData(text) {
		t.Error("the shared keys keep the text of the first model")
	}
	for s, want := range map[*Snapshot]string{
		a: `{"active":1,"id":1,"name":1}`,
		b: `{"active":1,"id":1,"name":1}`,
		c: `{"active":1,"id":1,"price":1}`,
	} {
		if got := string(s.JSON(false)); got != want {
			t.Errorf("a model is %s, want %s", got, want)
		}
	}
}

func TestKeysThatAreNotShared(t *testing.T) {
	var many []string
	for i := range mostShared + 1 {
		many = append(many, fmt.Sprintf("%03d", i))
	}
	long := strings.Repeat("k", mostSharedText+1)
	for _, keys := range [][]string{{}, many, {long}} {
		a, b := modelOf(keys...), modelOf(keys...)
		if !a.Equal(b) || a.Len() != len(keys) {
			t.Errorf("models of %d keys differ", len(keys))
		}
		if len(keys) > 0 && len(keys) <= width && &a.root.keys[0] == &b.root.keys[0] {
			t.Errorf("%d long keys are kept for other models", len(keys))
		}
	}
}

// An edit of a model must not change the keys that others share.
func TestKeysOutliveEdits(t *testing.T) {
	a, b := modelOf("a", "c"), modelOf("a", "c")
	e, err := a.Change([]res.Prop{{Key: "b", Value: res.Value{Kind: res.Primitive, Raw: "2"}}, {Key: "c", Value: res.DeleteValue}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(e.Next.JSON(false)), `{"a":1,"b":2}`; got != want {
		t.Errorf("the edited model is %s, want %s", got, want)
	}
	if got, want := string(b.JSON(false)), `{"a":1,"c":1}`; got != want {
		t.Errorf("the other one is %s, want %s", got, want)
	}
}

// Shards make models at the same time.
func TestKeysFromManyGoroutines(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				key := fmt.Sprintf("key%d", (i+g)%600)
				if s := modelOf(key); string(s.JSON(false)) != `{"`+key+`":1}` {
					t.Errorf("the model of %s is %s", key, s.JSON(false))
				}
			}
		})
	}
	wg.Wait()
}

// The first reader of a small snapshot leaves no text; the second one's is kept for the others.
func TestAppendJSONKeepsTextFromTheSecondTime(t *testing.T) {
	ref := res.Value{Kind: res.SoftReference, Raw: `{"rid":"x","soft":true}`, RID: "x"}
	big := res.Value{Kind: res.Primitive, Raw: `"` + strings.Repeat("x", onceBytes) + `"`}
	for _, tt := range []struct {
		name   string
		value  res.Value
		legacy bool
		want   string
		kept   bool // by the first time
	}{
		{"small", res.Value{Kind: res.Primitive, Raw: "1"}, false, `[1]`, false},
		{"small for old clients", res.Value{Kind: res.Primitive, Raw: "1"}, true, `[1]`, false},
		{"special for old clients", ref, true, `["x"]`, false},
		{"large", big, false, "[" + big.Raw + "]", true},
	} {
		s := NewCollection([]res.Value{tt.value})
		for i, kept := range []bool{tt.kept, true, true} {
			if got := string(s.AppendJSON([]byte("pre"), tt.legacy)); got != "pre"+tt.want {
				t.Errorf("%s: %s, want pre%s", tt.name, got, tt.want)
			}
			if at, _ := s.text(tt.legacy); (at.Load() != nil) != kept {
				t.Errorf("%s: text kept after %d times: %v", tt.name, i+1, !kept)
			}
		}
	}
}
