package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// What is traced is printed as it comes, as text or JSON, until the trace ends or a signal comes.
func TestTrace(t *testing.T) {
	url, tokenFile := looked(t)
	for _, tt := range []struct{ flag, want string }{{"", " status "}, {"-json", `"kind":"status"`}} {
		args := []string{"trace", "-url", url, "-token-file", tokenFile, "-resource", "a.>", "-seconds", "600"}
		if tt.flag != "" {
			args = append(args, tt.flag)
		}
		c := &child{t: t, cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
		c.cmd.Env = []string{asProgram + "=1"}
		c.start()
		c.after(tt.want)
		c.signal(syscall.SIGTERM)
		c.wantExit(0)
	}
	code, stdout, stderr := command(t, nil, "trace", "-url", url, "-token-file", tokenFile, "-resource", "a.>", "-seconds", "1")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "its time is over") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-url", url, "-cid", "c"}, 1, "adminTokenFile"},
		{[]string{"-url", url, "-token-file", tokenFile, "-cid", "c"}, 1, "not a connection ID of this gateway"},
		{[]string{"-url", "http://127.0.0.1:1", "-cid", "c"}, 1, "must run with adminPort"},
		{[]string{"-url", "here", "-cid", "c"}, 2, "the URL must be like"},
		{[]string{"-cid", "c", "-resource", "a"}, 2, "-token-file"},
		{nil, 2, "-token-file"},
		{[]string{"-h"}, 0, "-token-file"},
	} {
		code, _, stderr := command(t, nil, append([]string{"trace"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: exit code %d\n%s", tt.args, code, stderr)
		}
	}
}
