package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"sluice/gateway"
	"sluice/internal/admin"
	"sluice/internal/testkit"
)

// cids returns the connection IDs in a list.
func cids(l admin.ConnectionList) (all []string) {
	for _, c := range l.Connections {
		all = append(all, c.CID)
	}
	return all
}

func TestLookingInside(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.dial(), w.dial()
	w.subscribe(a, "test.model")
	w.subscribe(b, "test.model")
	w.subscribe(a, "test.other?q=1")
	for n := 2; n < 5; n++ {
		w.publish("event.test.model.change", model(n))
		w.next(a)
		w.next(b)
	}

	var o admin.Overview
	w.get("/api/overview", &o)
	if o.Connections.WebSocket != 2 || o.Totals.Deliveries < 6 || len(o.Loops) != 2 || len(o.Shards) != 2 || o.NotReady != "" || o.LogLevel != "debug" || o.Memory.Live == 0 || o.Totals.TimedEvents == 0 || o.Totals.EventsSeconds <= 0 {
		t.Errorf("overview: %+v", o)
	}
	for _, l := range o.Loops {
		if l.Late {
			t.Errorf("a loop is late: %+v", l)
		}
	}

	var list admin.ConnectionList
	w.get("/api/connections?sort=subscriptions", &list)
	if len(list.Connections) != 2 || list.Matched != 2 || list.Connections[0].Subscriptions != 2 || list.Connections[0].Kind != "websocket" || !strings.HasPrefix(list.Connections[0].Remote, "127.0.0.1:") {
		t.Fatalf("connections: %+v", list)
	}
	busy := list.Connections[0].CID
	w.get("/api/connections?resource=test.model&sort=cid", &list)
	if len(list.Connections) != 2 {
		t.Errorf("by resource: %+v", list)
	}
	w.get("/api/connections?resource=test.other%3Fq%3D1", &list)
	if got := cids(list); len(got) != 1 || got[0] != busy {
		t.Errorf("by resource with a query: %v, want %s", got, busy)
	}
	w.get("/api/connections?addr=127.0.0.0/8&limit=1&sort=idle", &list)
	if len(list.Connections) != 1 || list.Matched != 2 {
		t.Errorf("by network: %+v", list)
	}
	w.get("/api/connections?addr=10.0.0.1", &list)
	if len(list.Connections) != 0 || list.Matched != 0 {
		t.Errorf("by a foreign address: %+v", list)
	}
	w.get("/api/connections", &list)
	if len(list.Connections) != 0 {
		t.Errorf("slow clients: %+v", list)
	}

	var d admin.ConnectionDetails
	w.get("/api/connections/"+busy, &d)
	if len(d.List) != 2 || d.List[0].RID != "test.model" || d.List[0].State != "sent" || d.List[0].Direct != 1 || d.List[0].Access != "granted" || d.List[0].Call != "*" || d.More {
		t.Errorf("details: %+v", d)
	}
	w.get("/api/connections/"+busy+"?match=test.other&limit=1", &d)
	if len(d.List) != 1 || d.List[0].RID != "test.other?q=1" || d.More {
		t.Errorf("details of one: %+v", d)
	}
	w.get("/api/connections/"+busy+"?limit=1", &d)
	if len(d.List) != 1 || !d.More {
		t.Errorf("details with a limit: %+v", d)
	}

	var rs admin.ResourceList
	w.get("/api/resources", &rs)
	if len(rs.Resources) != 2 || rs.Resources[0].Name != "test.model" || rs.Resources[0].Subscribers != 2 || rs.Resources[0].Deliveries <= 0 {
		t.Errorf("resources: %+v", rs)
	}
	w.get("/api/resources?pattern=test.other&sort=name", &rs)
	if len(rs.Resources) != 1 || rs.Resources[0].Query != "q=1" {
		t.Errorf("resources by pattern: %+v", rs)
	}

	var r admin.ResourceDetails
	w.get("/api/resource?name=test.model&value=1", &r)
	if len(r.Values) != 1 {
		t.Fatalf("resource: %+v", r)
	}
	v := r.Values[0]
	if v.Kind != "model" || v.State != "current" || v.Entries != 2 || v.Subscribers != 2 || v.LastEvent != "change" || v.Events <= 0 ||
		!strings.Contains(string(v.Value), `"n":4`) {
		t.Errorf("value: %+v %s", v, v.Value)
	}
	w.get("/api/resource?name=test.other&query=q%3D1", &r)
	if len(r.Values) != 1 || r.Values[0].Query != "" || r.Values[0].Subscribers != 1 { // the service names no normalised query
		t.Errorf("query resource: %+v", r)
	}
}

// Of a client's token only the field appears that was asked for.
func TestTokenField(t *testing.T) {
	w := newWorld(t, nil)
	c, _ := w.dial(), w.dial()
	w.subscribe(c, "test.model")
	var list admin.ConnectionList
	w.get("/api/connections?resource=test.model", &list)
	cid := list.Connections[0].CID
	w.publish("conn."+cid+".token", `{"token":{"user":"alice","role":{"name":"admin"},"key":"s3same"}}`)
	var d admin.ConnectionDetails
	testkit.Until(t, "the token is there", func() bool {
		w.get("/api/connections/"+cid, &d)
		return d.HasToken
	})
	for _, tt := range []struct {
		query string
		found bool
		shown string
	}{
		{"field=user&value=alice", true, `"token":{"user":"alice"}`},
		{"field=user&value=%22alice%22", true, `"token":{"user":"alice"}`},
		{"field=role.name&value=admin", true, `"token":{"role.name":"admin"}`},
		{"field=user&value=bob", false, ""},
		{"field=key.x&value=s", false, ""},
		{"sort=cid", true, ""},
	} {
		_, text := w.ask("GET", "/api/connections?"+tt.query, "", &list)
		if found := strings.Contains(text, cid); found != tt.found || !strings.Contains(text, tt.shown) {
			t.Errorf("%s: %s", tt.query, text)
		}
		if strings.Contains(text, "s3same") {
			t.Errorf("%s: the token is shown: %s", tt.query, text)
		}
	}
	_, text := w.ask("GET", "/api/connections/"+cid+"?field=user", "", &d)
	if !strings.Contains(text, `"token":{"user":"alice"}`) || strings.Contains(text, "s3same") {
		t.Error(text)
	}
}

func TestActions(t *testing.T) {
	w := newWorld(t, nil)
	c, other := w.dial(), w.dial()
	w.subscribe(c, "test.model")
	w.subscribe(other, "test.other")
	var list admin.ConnectionList
	w.get("/api/connections?resource=test.model", &list)
	cid := list.Connections[0].CID

	gets, err := w.nc.SubscribeSync("get.test.>")
	if err != nil {
		t.Fatal(err)
	}
	w.flush()
	fetched := func(what, name string) {
		t.Helper()
		m, err := gets.NextMsg(testkit.Patience)
		if err != nil || m.Subject != "get."+name {
			t.Fatalf("%s: %v %v", what, m, err)
		}
	}
	if status, text := w.ask("POST", "/api/reset", `{"resources":["test.mod*"]}`, nil); status != http.StatusBadRequest {
		t.Errorf("reset of half a part: %d %s", status, text)
	}
	if status, text := w.ask("POST", "/api/reset", `{"resources":["*.model"]}`, nil); status != http.StatusOK {
		t.Errorf("reset: %d %s", status, text)
	}
	fetched("reset", "test.model")
	var flushed admin.Flushed
	if status, text := w.ask("POST", "/api/flush", `{"name":"test.other"}`, &flushed); status != http.StatusOK || flushed.Refetched != 1 || flushed.Evicted != 0 {
		t.Errorf("flush: %d %s", status, text)
	}
	fetched("flush", "test.other")

	if status, text := w.ask("POST", "/api/connections/"+cid+"/disconnect", "", nil); status != http.StatusOK {
		t.Errorf("disconnect: %d %s", status, text)
	}
	testkit.Until(t, "the client is closed", func() bool {
		code, closed := c.Closed()
		return closed && code == 1008
	})
	testkit.Until(t, "the connection is gone", func() bool {
		status, _ := w.ask("POST", "/api/connections/"+cid+"/disconnect", "", nil)
		return status == http.StatusNotFound
	})
	testkit.Until(t, "the value without subscribers is evicted", func() bool {
		status, _ := w.ask("POST", "/api/flush", `{"name":"test.model"}`, &flushed)
		return status == http.StatusOK && flushed.Evicted == 1
	})
	if status, _ := w.ask("GET", "/api/resource?name=test.model", "", nil); status != http.StatusNotFound {
		t.Errorf("a resource after its flush: %d", status)
	}

	var level admin.LogLevel
	w.get("/api/log", &level)
	if level.Level != "debug" {
		t.Errorf("level %q", level.Level)
	}
	if status, text := w.ask("POST", "/api/log", `{"level":"ERROR"}`, &level); status != http.StatusOK || level.Level != "error" {
		t.Errorf("set level: %d %s", status, text)
	}
	w.get("/api/log", &level)
	if level.Level != "error" {
		t.Errorf("level %q", level.Level)
	}
	for _, path := range []string{"/debug/pprof/goroutine?debug=1", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/trace?seconds=0.01"} {
		if status, text := w.ask("GET", path, "", nil); status != http.StatusOK || text == "" {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// Bad input gets an error that says what to do.
func TestBadInput(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial()
	w.subscribe(c, "test.model")
	var list admin.ConnectionList
	w.get("/api/connections?resource=test.model", &list)
	cid := list.Connections[0].CID
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/api/nothing", "", 404, "docs/admin.md"},
		{"GET", "/api/connections/nobody", "", 404, "not a connection ID"},
		{"GET", "/api/connections/" + cid + "1", "", 404, ""},
		{"GET", "/api/connections/" + long, "", 404, "xxx…"},
		{"GET", "/api/connections/" + cid + "?match=a..b", "", 400, "pattern"},
		{"GET", "/api/connections/" + cid + "?limit=0", "", 400, "from 1 to 1000"},
		{"GET", "/api/connections?limit=1000000000000000000000", "", 400, "from 1 to 1000"},
		{"GET", "/api/connections?limit=-1", "", 400, "from 1 to 1000"},
		{"GET", "/api/connections?sort=up", "", 400, "sort must be"},
		{"GET", "/api/connections?addr=localhost", "", 400, "10.0.0.0/8"},
		{"GET", "/api/connections?value=x", "", 400, "needs field"},
		{"GET", "/api/connections?resource=a..b", "", 400, "resource ID"},
		{"GET", "/api/connections?resource=not.cached", "", 404, "not cached"},
		{"GET", "/api/resources?sort=x", "", 400, "sort must be"},
		{"GET", "/api/requests?limit=x", "", 400, "limit"},
		{"GET", "/api/requests?service=a..b", "", 400, "leading part"},
		{"GET", "/api/requests?service=a%3Fb", "", 400, "leading part"},
		{"GET", "/api/resources?pattern=%20", "", 400, "pattern"},
		{"GET", "/api/resources?limit=x", "", 400, "limit"},
		{"GET", "/api/resource", "", 400, "resource name"},
		{"GET", "/api/resource?name=a%3Fb", "", 400, "without a query"},
		{"GET", "/api/resource?name=not.cached", "", 404, "not cached"},
		{"GET", "/api/resource?name=test.model&query=q", "", 404, "not cached"},
		{"POST", "/api/overview", "", 405, "GET"},
		{"GET", "/api/reset", "", 405, "POST"},
		{"DELETE", "/api/connections/" + cid, "", 405, "GET"},
		{"POST", "/api/reset", `{}`, 400, "1 to 100"},
		{"POST", "/api/reset", `{"resources":["a..b"]}`, 400, "pattern"},
		{"POST", "/api/reset", `{"resources":"a"}`, 400, "not what is wanted"},
		{"POST", "/api/reset", `{"what":["a"]}`, 400, "unknown field"},
		{"POST", "/api/reset", `{"resources":["` + strings.Repeat(`a","`, 200) + `b"]}`, 400, "1 to 100"},
		{"POST", "/api/reset", `{"resources":["` + strings.Repeat("x", 80<<10) + `"]}`, 400, "too large"},
		{"POST", "/api/flush", `{"name":"a.*."}`, 400, "resource name"},
		{"POST", "/api/flush", `null`, 400, "resource name"},
		{"POST", "/api/log", `{"level":"loud"}`, 400, "trace, debug"},
		{"POST", "/api/log", `{`, 400, "not what is wanted"},
		{"POST", "/api/connections/nobody/disconnect", "", 404, "not a connection ID"},
	} {
		var e struct{ Error string }
		status, text := w.ask(tt.method, tt.path, tt.body, &e)
		if status != tt.status || e.Error == "" || !strings.Contains(text, tt.want) || len(text) > 500 {
			t.Errorf("%s %.80s %.80s: %d %s", tt.method, tt.path, tt.body, status, text)
		}
	}
	if status, text := w.ask("POST", "/api/flush", "", nil); status != http.StatusUnsupportedMediaType {
		t.Errorf("without a body: %d %s", status, text)
	}
	// The client is still there.
	w.subscribe(c, "test.other")
}

// Credentials in settings are not shown.
func TestConfigIsRedacted(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) {
		c.NATSURL = gateway.NATSURL(strings.Replace(string(c.NATSURL), "://", "://user:s3same@", 1))
	})
	var all map[string]any
	_, text := w.ask("GET", "/api/config", "", &all)
	if all["loops"] != float64(2) || strings.Contains(text, "s3same") || !strings.Contains(text, "natsUrl") {
		t.Error(text)
	}
}
