// Command chat is a chat room that shows who is there. A name is the connection's token; who has
// left is found by a roll call, which needs no help from the page.
//
// Its service knows nothing of the gateway: the two talk through NATS.
package main

import (
	"embed"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jirenius/go-res"

	"sluice/internal/example"
)

//go:embed index.html
var web embed.FS

const (
	maxMessages = 50
	maxPeople   = 100
	roll        = time.Second // between two roll calls
	missed      = 3           // roll calls that a connection may miss
	tokenID     = "chat"      // of all tokens, by which a roll call finds their connections
)

type token struct {
	Name string `json:"name"`
}

type message struct {
	From string `json:"from"`
	Text string `json:"text"`
}

// person is someone who has joined.
type person struct {
	cid, name string
	seen      int // the last roll call that their connection answered
}

// room is what the service owns. All handlers are in one group, so go-res runs them one at a time.
type room struct {
	service  *res.Service
	messages []res.DataValue[message] // a message is one value, since it never changes
	people   []person
	round    int
}

func (m *room) index(cid string) int {
	return slices.IndexFunc(m.people, func(p person) bool { return p.cid == cid })
}

// names returns the collection of who is there.
func (m *room) names() []string {
	names := make([]string, len(m.people))
	for i, p := range m.people {
		names[i] = p.name
	}
	return names
}

// join handles the auth method: it gives the connection its name.
func (m *room) join(r res.AuthRequest) {
	var p token
	r.ParseParams(&p)
	p.Name = strings.TrimSpace(p.Name)
	switch {
	case p.Name == "" || len(p.Name) > 30:
		r.InvalidParams("A name has 1 to 30 characters")
		return
	case m.index(r.CID()) >= 0:
		r.Error(&res.Error{Code: "chat.joined", Message: "You have joined already"})
		return
	case len(m.people) == maxPeople:
		r.Error(&res.Error{Code: "chat.full", Message: "The room is full"})
		return
	}
	r.Service().TokenEventWithID(r.CID(), tokenID, p)
	m.enter(r.CID(), p.Name)
	r.OK(nil)
}

func (m *room) enter(cid, name string) {
	m.people = append(m.people, person{cid, name, m.round})
	m.on("chat.people", func(r res.Resource) { r.AddEvent(name, len(m.people)-1) })
}

// present handles a connection's answer to a roll call, which its gateway sends.
func (m *room) present(r res.AuthRequest) {
	var t token
	r.ParseToken(&t)
	if i := m.index(r.CID()); i >= 0 {
		m.people[i].seen = m.round
	} else if t.Name != "" && len(m.people) < maxPeople {
		m.enter(r.CID(), t.Name) // this service was restarted meanwhile
	}
	r.OK(nil)
}

// call removes who has missed too many roll calls, and begins the next one.
func (m *room) call() {
	for i := len(m.people) - 1; i >= 0; i-- {
		if m.round-m.people[i].seen >= missed {
			m.people = slices.Delete(m.people, i, i+1)
			m.on("chat.people", func(r res.Resource) { r.RemoveEvent(i) })
		}
	}
	m.round++
	m.service.TokenReset("auth.chat.people.present", tokenID)
}

// send handles the call that adds a message.
func (m *room) send(r res.CallRequest) {
	var t token
	r.ParseToken(&t)
	var text string
	r.ParseParams(&text)
	if strings.TrimSpace(text) == "" || len(text) > 500 {
		r.InvalidParams("A message has 1 to 500 characters")
		return
	}
	if len(m.messages) == maxMessages {
		m.messages = slices.Delete(m.messages, 0, 1)
		r.RemoveEvent(0)
	}
	value := res.DataValue[message]{Data: message{From: t.Name, Text: text}}
	m.messages = append(m.messages, value)
	r.AddEvent(value, len(m.messages)-1)
	r.OK(nil)
}

// on runs f with a resource that has a handler.
func (m *room) on(rid string, f func(res.Resource)) {
	r, err := m.service.Resource(rid)
	if err != nil {
		panic(err)
	}
	f(r)
}

func service() *res.Service {
	s := res.NewService("chat")
	m := &room{service: s, messages: []res.DataValue[message]{}} // nil would be null, which is no collection
	s.Handle("messages", res.Group("chat"),
		res.Access(func(r res.AccessRequest) {
			var t token
			r.ParseToken(&t)
			if t.Name == "" {
				r.Access(true, "") // guests may read
				return
			}
			r.Access(true, "send")
		}),
		res.GetCollection(func(r res.CollectionRequest) { r.Collection(m.messages) }),
		res.Call("send", m.send))
	s.Handle("people", res.Group("chat"),
		res.Access(func(r res.AccessRequest) { r.Access(true, "") }),
		res.GetCollection(func(r res.CollectionRequest) { r.Collection(m.names()) }),
		res.Auth("join", m.join),
		res.Auth("present", m.present))
	go func() {
		for range time.Tick(roll) {
			s.WithGroup("chat", func(*res.Service) { m.call() })
		}
	}()
	return s
}

func main() { os.Exit(example.Run(web, service())) }
