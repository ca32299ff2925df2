package takeover

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/testkit"
)

// A process that asks to take over learns why not before it has lost patience.
func TestPatience(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	got, ended := make(chan time.Duration, 1), make(chan struct{})
	go func() {
		defer close(ended)
		Serve(l, func(o Order) error {
			got <- o.Patience
			return errors.New("not today")
		})
	}()
	ask := func(line string) {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte(line + "\n"))
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		_, _ = io.Copy(io.Discard, c)
	}
	for line, want := range map[string]time.Duration{
		`{}`:                              0,
		`{"TakeOver":true}`:               helloWait - refusalTime,
		`{"TakeOver":true,"Patience":-1}`: helloWait - refusalTime,
		`{"TakeOver":true,"Patience":4000000000}`:   2 * time.Second,
		`{"TakeOver":true,"Patience":120000000000}`: 115 * time.Second,
	} {
		ask(line)
		if d := testkit.Await(t, got, "the order"); d != want {
			t.Errorf("%s: %v, want %v", line, d, want)
		}
	}
	if _, err := Join(path, "v2"); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Error(err)
	}
	if d := testkit.Await(t, got, "the order"); d != joinWait-refusalTime {
		t.Errorf("Join: %v", d)
	}
	_ = l.Close()
	<-ended
}
