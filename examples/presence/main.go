// Command presence lists who is connected to two gateways, by the events and heartbeats that these
// publish. One of the gateways is a process that the page can kill: the service forgets its clients
// when the heartbeats have stopped.
//
// Its service knows nothing of the gateways but what docs/presence.md says: all goes through NATS.
package main

import (
	"bufio"
	"embed"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jirenius/go-res"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

const (
	heartbeat = 500 * time.Millisecond
	maxName   = 30
	everyone  = "presence.clients"
	second    = "presence.second"
	group     = "presence" // of all handlers, so go-res runs them one at a time
)

// shown is a client as the page gets it. The cid is for services only.
type shown struct {
	Gateway   string `json:"gateway"`
	Transport string `json:"transport"`
	Address   string `json:"address"`
	Name      string `json:"name"`
}

// directory is what the service owns; its handlers and with use it, which run one at a time.
type directory struct {
	service *res.Service
	list    *list            // set by follow
	stopped chan struct{}    // closed when the list's goroutine has ended
	keys    map[string]int   // of the clients in the model, by cid
	clients map[string]shown // the model, by key as text
	last    int              // key

	child *exec.Cmd // the second gateway; nil: it does not run
	begin func() (*exec.Cmd, string, error)
	url   string // its page
}

// with runs f with a resource, in turn with the handlers.
func (d *directory) with(rid string, f func(res.Resource)) {
	if err := d.service.With(rid, f); err != nil {
		panic(err) // it has a handler
	}
}

// changed takes what the list has found of a client. The list's goroutine calls it.
func (d *directory) changed(cid string, c *client) {
	d.with(everyone, func(r res.Resource) {
		key, has := d.keys[cid]
		if c == nil {
			delete(d.keys, cid)
			delete(d.clients, strconv.Itoa(key))
			r.ChangeEvent(map[string]any{strconv.Itoa(key): res.DeleteAction})
			return
		}
		if !has {
			d.last++
			key = d.last
			d.keys[cid] = key
		}
		d.set(r, key, shown{Gateway: c.Gateway, Transport: c.Transport, Address: c.Address, Name: d.clients[strconv.Itoa(key)].Name})
	})
}

func (d *directory) set(r res.Resource, key int, s shown) {
	d.clients[strconv.Itoa(key)] = s
	r.ChangeEvent(map[string]any{strconv.Itoa(key): res.DataValue[shown]{Data: s}})
}

// model returns the model of all clients.
func (d *directory) model() map[string]any {
	all := map[string]any{}
	for key, s := range d.clients {
		all[key] = res.DataValue[shown]{Data: s}
	}
	return all
}

// rename handles the auth method that gives the caller a name. The request may be here before the
// client's connect event, which was published first: the list takes that, then the name is set.
func (d *directory) rename(r res.AuthRequest) {
	var p struct{ Name string }
	r.ParseParams(&p)
	name, cid := strings.TrimSpace(p.Name), r.CID()
	if name == "" || len(name) > maxName {
		r.InvalidParams(fmt.Sprintf("A name has 1 to %d characters", maxName))
		return
	}
	set := func(r res.Resource) {
		if key, has := d.keys[cid]; has {
			s := d.clients[strconv.Itoa(key)]
			s.Name = name
			d.set(r, key, s)
		}
	}
	select {
	case d.list.calls <- func() { d.with(everyone, set) }:
	case <-d.stopped:
	}
	r.OK(nil)
}

// state returns the model of the second gateway.
func (d *directory) state() map[string]any {
	return map[string]any{"url": d.url, "running": d.child != nil}
}

// start handles the call that starts the second gateway.
func (d *directory) start(r res.CallRequest) {
	if d.child != nil {
		r.Error(&res.Error{Code: "presence.running", Message: "It runs already"})
		return
	}
	var err error
	if d.child, d.url, err = d.begin(); err != nil {
		r.Error(err)
		return
	}
	r.ChangeEvent(d.state())
	r.OK(nil)
}

// kill handles the call that kills the second gateway, as a crash or a machine's failure does.
func (d *directory) kill(r res.CallRequest) {
	if d.child == nil {
		r.Error(&res.Error{Code: "presence.stopped", Message: "It does not run"})
		return
	}
	_ = d.child.Process.Kill()
	_ = d.child.Wait()
	d.child = nil
	r.ChangeEvent(d.state())
	r.OK(nil)
}

func newDirectory() *directory {
	d := &directory{service: res.NewService("presence"), stopped: make(chan struct{}), keys: map[string]int{}, clients: map[string]shown{}}
	free := res.Access(func(r res.AccessRequest) { r.Access(true, "*") })
	d.service.Handle("clients", res.Group(group), free,
		res.GetModel(func(r res.ModelRequest) { r.Model(d.model()) }),
		res.Auth("rename", d.rename))
	d.service.Handle("second", res.Group(group), free,
		res.GetModel(func(r res.ModelRequest) { r.Model(d.state()) }),
		res.Call("start", d.start),
		res.Call("kill", d.kill))
	return d
}

// follow begins the list, and the second gateway.
func (d *directory) follow(nc *nats.Conn) (end func(), err error) {
	d.begin = func() (*exec.Cmd, string, error) { return further(nc.ConnectedUrl()) }
	if d.list, err = newList(nc, d.changed); err != nil {
		return nil, err
	}
	if d.child, d.url, err = d.begin(); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	go func() {
		d.list.run(stop)
		close(d.stopped)
	}()
	return func() {
		close(stop)
		<-d.stopped
		killed := make(chan struct{})
		d.service.WithGroup(group, func(*res.Service) {
			if d.child != nil {
				_ = d.child.Process.Kill()
				_ = d.child.Wait()
			}
			close(killed)
		})
		<-killed
	}, nil
}

// further starts a gateway as a process of its own, and returns the URL of its page. It ends with
// this process, at the latest when the pipe to it does.
func further(url string) (*exec.Cmd, string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	port := flag.Lookup("port").Value.String()
	if n, err := strconv.Atoi(port); err == nil && n > 0 {
		port = strconv.Itoa(n + 1)
	}
	child := exec.Command(program, "-gateway", "edge-2", "-nats", url, "-port", port, "-modules", flag.Lookup("modules").Value.String())
	child.Stderr = os.Stderr
	if _, err := child.StdinPipe(); err != nil {
		return nil, "", err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := child.Start(); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = child.Wait()
		return nil, "", fmt.Errorf("the second gateway does not start: %w", err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return child, line[strings.Index(line, "http") : len(line)-1], nil
}

func main() {
	id := flag.String("gateway", "edge-1", "ID of the gateway")
	d := newDirectory()
	os.Exit(example.RunBeside(web, d.service, d.follow, func(c *gateway.Config) {
		c.ConnectionEvents, c.GatewayID, c.GatewayHeartbeat = true, *id, heartbeat
	}))
}
