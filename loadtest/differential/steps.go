//go:build linux

package differential

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Step is one thing that happens in a conversation.
type Step struct {
	Client int    // 0 or 1: it sends Text; -1: the service or an HTTP client acts
	Text   string // a WebSocket message; {id} is a new request ID
	Act    string // of the service, see world.act
	Name   string // the resource that Act is about, without the service's name
	Seed   uint64 // of what is random about Act
	HTTP   *Exchange
}

// Exchange is an HTTP request.
type Exchange struct {
	Method, Path, Body string
	Header             map[string]string
}

func (s Step) String() string {
	switch {
	case s.HTTP != nil:
		return fmt.Sprintf("http %s %s %q %v", s.HTTP.Method, s.HTTP.Path, s.HTTP.Body, s.HTTP.Header)
	case s.Client >= 0:
		return fmt.Sprintf("client %d sends %s", s.Client, s.Text)
	}
	return fmt.Sprintf("service: %s %s (%d)", s.Act, s.Name, s.Seed)
}

// The resources of a conversation's service. What they do is in world.go.
var (
	models      = []string{"m0", "m1", "m2", "m3"}
	collections = []string{"c0", "c1"}
	failing     = []string{"missing", "broken", "odd", "denied", "accessfails", "calls", "member"}
	methods     = []string{"echo", "null", "fail", "failplain", "resource", "odd", "set"}
)

// service stands for the service's name in names, texts and paths; each conversation has its own,
// so that many can be held at a time.
const service = "{s}"

// Steps returns the conversation of a seed.
func Steps(seed uint64, n int) []Step {
	g := generator{rand.New(rand.NewPCG(seed, 17))}
	steps := []Step{g.version(0)}
	if g.IntN(2) == 0 {
		steps = append(steps, g.version(1)) // otherwise it speaks 1.1.1
	}
	for len(steps) < n {
		steps = append(steps, g.step())
	}
	return steps
}

type generator struct{ *rand.Rand }

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

// rid returns a resource ID, mostly of a resource that exists.
func (g generator) rid() string {
	switch g.IntN(20) {
	case 0, 1, 2:
		return service + "." + g.pick(failing...)
	case 3, 4:
		return service + ".q?" + g.pick("from=0&count=2", "count=2&from=0", "from=1&count=3", "from=0", "x=y", "")
	case 5, 6, 7, 8, 9:
		return service + "." + g.pick(collections...)
	case 10:
		return g.pick("", ".", service, service+".", service+"..m0", service+".*", service+".>", service+".m0?", service+".m 0", "."+service,
			service+".m0.", service+".ä", service+".m0?a=\\u0000", "nobody.m0", service+".m0\\n", service+".{cid}", service+"."+strings.Repeat("x", 300))
	}
	return service + "." + g.pick(models...)
}

func (g generator) version(client int) Step {
	return Step{Client: client, Text: fmt.Sprintf(`{"id":{id},"method":"version","params":{"protocol":"%s"}}`, g.pick("1.2.3", "1.2.2", "1.2.0", "1.1.1"))}
}

func (g generator) step() Step {
	switch n := g.IntN(100); {
	case n < 22:
		return g.request("subscribe." + g.rid())
	case n < 32:
		count := ""
		if g.IntN(3) == 0 {
			count = g.pick(`{"count":1}`, `{"count":2}`, `{"count":0}`, `{"count":-1}`, `{"count":"1"}`, `{}`, `null`, `{"count":1.5}`)
		}
		return g.params("unsubscribe."+g.rid(), count)
	case n < 36:
		return g.request("get." + g.rid())
	case n < 44:
		return g.params("call."+g.rid()+"."+g.pick(methods...), g.pick("", `{"a":1}`, `[1,"x"]`, `null`, `"text"`))
	case n < 47:
		return g.params("auth."+service+".session."+g.pick("login", "logout", "fail", "resource"), g.pick("", `{"name":"jane"}`))
	case n < 49:
		return g.params("new."+service+"."+g.pick("c0", "m0", "missing", "denied"), g.pick("", `{"a":2}`))
	case n < 53:
		return Step{Client: g.IntN(2), Text: g.odd()}
	case n < 54:
		return g.version(g.IntN(2))
	case n < 66:
		return g.http()
	}
	return g.act()
}

func (g generator) request(method string) Step { return g.params(method, "") }

func (g generator) params(method, params string) Step {
	text := `{"id":{id},"method":"` + method + `"`
	if params != "" {
		text += `,"params":` + params
	}
	return Step{Client: g.IntN(2), Text: text + "}"}
}

// odd returns a message that is no request, or an unusual one.
func (g generator) odd() string {
	return g.pick(
		`not JSON`, ``, ` `, `[]`, `{}`, `null`, `1`, `"x"`, `{"id":{id}}`, `{"id":{id},"method":1}`, `{"id":{id},"method":""}`, `{"id":{id},"method":"x"}`,
		`{"id":{id},"method":"subscribe"}`, `{"id":{id},"method":"subscribe."}`, `{"id":{id},"method":"call.`+service+`"}`, `{"id":{id},"method":"call.`+service+`.m0"}`,
		`{"id":{id},"method":"jump.`+service+`.m0"}`, `{"method":"subscribe.`+service+`.m0"}`, `{"id":null,"method":"get.`+service+`.m0"}`,
		`{"id":"text","method":"get.`+service+`.m0"}`, `{"id":1.5,"method":"get.`+service+`.m0"}`, `{"id":{"a":1},"method":"get.`+service+`.m0"}`,
		`{"id":{id},"method":"get.`+service+`.m0","params":}`, `{"id":{id},"id":4000000001,"method":"get.`+service+`.m1"}`, `{"method":"get.`+service+`.m0","id":{id},"more":[1,2]}`,
		` {"id":{id} , "method" : "get.`+service+`.m0" } `, `{"id":{id},"method":"version","params":{"protocol":"2.0.0"}}`, `{"id":{id},"method":"version","params":{"protocol":"x"}}`,
		`{"id":{id},"method":"version","params":{"protocol":1}}`, `{"id":{id},"method":"version"}`, `{"id":{id},"method":"version.x"}`, `{"id":{id},"method":"auth.`+service+`"}`,
	)
}

// http returns an HTTP request.
func (g generator) http() Step {
	base := "/api/" + service
	e := &Exchange{Method: g.pick("GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"), Header: map[string]string{}}
	e.Path = base + "/" + g.pick("m0", "m1", "m2", "c0", "c1", "missing", "broken", "odd", "denied", "accessfails", "calls", "member", "q?from=0&count=2", "q", "m0/", "/m0", "", "m%300", "%2e%2e/m0", "m0?x=y", "m0%2Fx", "{cid}")
	if e.Method == "POST" {
		e.Path = base + "/" + g.pick("m0", "c0", "calls", "denied", "missing") + "/" + g.pick(methods...)
		e.Body = g.pick("", `{"a":1}`, `[1]`, `null`, `not JSON`, ` `)
		if g.IntN(2) == 0 {
			e.Header["Content-Type"] = "application/json"
		}
	}
	switch g.IntN(6) {
	case 0:
		e.Header["Origin"] = g.pick("http://example.com", "null")
	case 1:
		e.Header["Access-Control-Request-Method"] = "POST"
		e.Header["Origin"] = "http://example.com"
	}
	if g.IntN(12) == 0 {
		e.Path = g.pick("/", "/api", "/api/", "/other", "/api//", "/api/"+service)
	}
	return Step{Client: -1, HTTP: e}
}

// act returns something that the service does.
func (g generator) act() Step {
	s := Step{Client: -1, Seed: g.Uint64()}
	switch n := g.IntN(34); {
	case n < 12:
		s.Act, s.Name = "mutate", g.pick(append(models, collections...)...)
	case n < 14:
		s.Act, s.Name = "custom", g.pick("m0", "m1", "c0", "q")
	case n < 16:
		s.Act, s.Name = "query", "q"
	case n < 18:
		s.Act, s.Name = "silent", g.pick(append(models, collections...)...)
	case n < 21:
		s.Act, s.Name = "reset", g.pick("m0", "m1", "c0", "*", ">", "q", "missing")
	case n < 23:
		s.Act, s.Name = "resetaccess", g.pick("m0", "c0", "*", ">", "q")
	case n < 24:
		s.Act, s.Name = "reaccess", g.pick("m0", "m1", "c0")
	case n < 26:
		s.Act, s.Name = "deny", g.pick("m0", "m1", "c0", "c1")
	case n < 28:
		s.Act, s.Name = "delete", g.pick("m2", "m3", "c1")
	case n < 30:
		s.Act, s.Name = "create", g.pick("m2", "m3", "c1")
	case n < 31:
		s.Act, s.Name = "oddevent", g.pick("m0", "c0")
	case n < 33:
		s.Act, s.Name = "token", g.pick("member", "none", "odd")
	default:
		s.Act = "tokenreset"
	}
	return s
}
