package systemd

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestWithoutAManager(t *testing.T) {
	n, err := NewNotifier([]string{"NOTIFY_SOCKET=", "WATCHDOG_USEC=1000"}, 1)
	if n != nil || err != nil {
		t.Fatal(n, err)
	}
	n.Ready("")
	n.Reloading()
	n.Stopping(time.Second)
	n.Alive()
	if n.Watchdog() != 0 {
		t.Error(n.Watchdog())
	}
	for _, environ := range [][]string{nil, {"LISTEN_FDS=1"}, {"LISTEN_FDS=1", "LISTEN_PID=2"}} {
		if s, err := Listen(environ, 1); err != nil || s.Clients != nil || s.Metrics != nil {
			t.Error(environ, s, err)
		}
	}
	for _, count := range []string{"", "x", "-1", "65"} {
		if _, err := Listen([]string{"LISTEN_FDS=" + count, "LISTEN_PID=1"}, 1); err == nil {
			t.Errorf("LISTEN_FDS=%s is accepted", count)
		}
	}
}

// The watchdog is that of another process if its number says so.
func TestWatchdogPID(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, tt := range []struct {
		pid, usec string
		want      time.Duration
	}{
		{"", "2000000", 2 * time.Second}, {"7", "2000000", 2 * time.Second}, {"8", "2000000", 0},
		{"7", "", 0}, {"7", "0", 0}, {"7", "-5", 0}, {"7", "soon", 0}, {"7", "99999999999999999", 0},
	} {
		n, err := NewNotifier([]string{"NOTIFY_SOCKET=" + name, "WATCHDOG_PID=" + tt.pid, "WATCHDOG_USEC=" + tt.usec}, 7)
		if err != nil || n.Watchdog() != tt.want {
			t.Errorf("%+v: %v, %v", tt, n.Watchdog(), err)
		}
	}
}
