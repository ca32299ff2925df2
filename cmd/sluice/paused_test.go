package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/restest"
	"sluice/internal/testkit"
)

// A process that is stopped for longer than all its timeouts, as in a virtual machine that is
// paused, loses nothing: it handles the replies that arrived during the pause before it judges
// deadlines, and its clients are still connected.
func TestPausedProcess(t *testing.T) {
	// A busy machine may need longer than the timeout to get as far as the pause.
	for timeout := 300 * time.Millisecond; !pausedBefore(t, timeout); timeout *= 4 {
		if timeout > testkit.Patience {
			t.Fatalf("five calls take longer than %v", timeout)
		}
	}
}

// pausedBefore stops a process with five pending calls for three times their timeout. It reports
// false if the calls might have timed out before the pause, which proves nothing.
func pausedBefore(t *testing.T, timeout time.Duration) bool {
	const calls = 5
	ns := natstest.Start(t)
	nc := ns.Client()
	asked := make(chan *nats.Msg, calls)
	if _, err := nc.Subscribe("access.>", func(m *nats.Msg) { _ = m.Respond([]byte(`{"result":{"get":true,"call":"*"}}`)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("call.>", func(m *nats.Msg) { asked <- m }); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	p := listening(t, "--nats", ns.URL(), "--reqtimeout", fmt.Sprint(timeout.Milliseconds()))
	news := make(chan struct{}, 1)
	client, err := restest.Dial("a", "ws://"+p.addr+"/", func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Cut()
	began := time.Now()
	for i := range calls {
		if err := client.Send(fmt.Sprintf(`{"id":%d,"method":"call.test.it"}`, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	var pending []*nats.Msg
	for range calls {
		select {
		case m := <-asked:
			pending = append(pending, m)
		case <-time.After(timeout):
			return false
		}
	}
	p.signal(syscall.SIGSTOP)
	if time.Since(began) > timeout/2 {
		return false
	}
	for _, m := range pending {
		_ = m.Respond([]byte(`{"result":"ok"}`))
	}
	if err := nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * timeout) // the process is stopped: only real time gets it past its deadlines
	p.signal(syscall.SIGCONT)
	for got := 0; got < calls; {
		m, ok := client.Next()
		if !ok {
			testkit.Await(t, news, "a response")
			continue
		}
		if !strings.Contains(m, `"result":"ok"`) {
			t.Fatalf("got %s", m)
		}
		got++
	}
	return true
}
