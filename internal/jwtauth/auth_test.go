package jwtauth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// issuer is a server with a JWKS. Its response can be changed.
type issuer struct {
	*httptest.Server
	hits    atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]
}

func newIssuer(t *testing.T, set string) *issuer {
	i := &issuer{}
	i.serve(set)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.hits.Add(1)
		(*i.handler.Load())(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) respond(f http.HandlerFunc) { i.handler.Store(&f) }

func (i *issuer) serve(set string) {
	i.respond(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, set) })
}

func (i *issuer) fail(status int) {
	i.respond(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

// running is a started Auth in fake time.
type running struct {
	*Auth
	t     *testing.T
	clock *owner.ManualClock
	log   *testkit.Log
}

func create(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{t: t, clock: owner.NewManualClock(), log: new(testkit.Log)}
	if o.Anonymous == "" {
		o.Anonymous = AnonymousNever
	}
	if o.Refresh == 0 {
		o.Refresh = 15 * time.Minute
	}
	r.Auth = New(o, Env{Clock: r.clock, Wall: wall, Metrics: new(Metrics), Faults: owner.NewFaults(r.clock, r.log.Logger()), Log: r.log.Logger()})
	return r
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	r := create(t, o)
	r.start()
	return r
}

func (r *running) start() {
	r.t.Helper()
	if err := r.Start(context.Background(), nil); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.Stop(context.Background()) })
}

type verdict struct {
	Grant
	Outcome
}

// ask has a token verified, and returns what comes of it.
func (r *running) ask(token string) verdict {
	r.t.Helper()
	return testkit.Await(r.t, r.begin(token), "a verification")
}

func (r *running) begin(token string) <-chan verdict {
	done := make(chan verdict, 1)
	if o, decided := r.Verify(token, func(g Grant, o Outcome) { done <- verdict{g, o} }); decided {
		done <- verdict{Grant{}, o}
	}
	return done
}

// expect has a token verified with an outcome.
func (r *running) expect(token string, want Outcome) {
	r.t.Helper()
	if got := r.ask(token); got.Outcome != want {
		r.t.Errorf("%v, want %v", got, want)
	}
}

// scheduled waits until the next fetch is due in d.
func (r *running) scheduled(d time.Duration) {
	r.t.Helper()
	testkit.Until(r.t, fmt.Sprintf("the next fetch is due in %v", d), func() bool {
		at, ok := r.clock.Next()
		return ok && at == r.clock.Now()+d
	})
}

func rs(t *testing.T, id string) string {
	t.Helper()
	return sign(t, "RS256", keys()[id].private, kid(id), `{"sub":"`+id+`"}`)
}

func TestKeysRotate(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL})
	r.expect(rs(t, "rsa"), Valid)
	i.serve(jwks(t, "rsa2"))
	r.expect(rs(t, "rsa2"), UnknownKey) // the last fetch was just now
	r.clock.Advance(fetchPause)
	if got := r.ask(rs(t, "rsa2")); got.Outcome != Valid || got.Token != `{"sub":"rsa2"}` {
		t.Error(got)
	}
	r.expect(rs(t, "rsa"), UnknownKey) // it has been withdrawn
	if n := i.hits.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

// Many clients with made-up key IDs cause one fetch.
func TestUnknownKeysShareAFetch(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL})
	r.clock.Advance(fetchPause)
	release := make(chan struct{})
	set := jwks(t, "rsa", "rsa2")
	i.respond(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, set)
	})
	var all []<-chan verdict
	for range 50 {
		all = append(all, r.begin(rs(t, "rsa2")))
		all = append(all, r.begin(sign(t, "RS256", keys()["rsa2"].private, kid("x"), `{}`)))
	}
	r.expect(rs(t, "rsa"), Valid) // while the fetch is in flight
	close(release)
	for n, c := range all {
		want := Valid
		if n%2 == 1 {
			want = UnknownKey
		}
		if got := testkit.Await(t, c, "a verification"); got.Outcome != want {
			t.Errorf("%d: %v, want %v", n, got, want)
		}
	}
	if n := i.hits.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
	if n := r.env.Metrics.Waiting.Load(); n != 0 {
		t.Errorf("%d bytes wait", n)
	}
}

func TestPeriodicFetches(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL, Refresh: time.Hour})
	r.scheduled(time.Hour)
	i.serve(jwks(t, "rsa", "rsa2"))
	r.clock.Advance(time.Hour)
	r.scheduled(time.Hour)
	r.expect(rs(t, "rsa2"), Valid)
	if n := r.env.Metrics.Keys.Load(); n != 2 {
		t.Errorf("%d keys", n)
	}
}

// While the server fails, the keys stay, attempts back off, and the log has one line.
func TestStaleKeysStay(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL + "?secret=hidden-word"})
	r.scheduled(15 * time.Minute)
	i.fail(http.StatusBadGateway)
	r.clock.Advance(15 * time.Minute)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		r.scheduled(pause * time.Second)
		r.clock.Advance(pause * time.Second)
	}
	r.scheduled(time.Minute)
	r.expect(rs(t, "rsa"), Valid)
	if n := r.log.Count("cannot fetch"); n != 1 {
		t.Errorf("%d lines of failures:\n%s", n, r.log)
	}
	i.serve(jwks(t, "rsa"))
	r.clock.Advance(time.Minute)
	r.scheduled(15 * time.Minute)
	if n := r.log.Count("fetched again"); n != 1 {
		t.Errorf("%d lines of the recovery:\n%s", n, r.log)
	}
	if strings.Contains(r.log.String(), "hidden-word") {
		t.Error("the log has the query of the URL")
	}
}

func TestStartWithoutKeys(t *testing.T) {
	i := newIssuer(t, "")
	i.fail(http.StatusInternalServerError)
	r := run(t, Options{JWKS: i.URL, Secret: hmacSecret})
	r.expect(rs(t, "rsa"), Unavailable)
	r.expect(hs(t, `{}`), Valid)
	r.expect("", Missing)
	i.serve(jwks(t, "rsa"))
	r.scheduled(time.Second)
	r.clock.Advance(time.Second)
	r.scheduled(15 * time.Minute)
	r.expect(rs(t, "rsa"), Valid)
}

// What a server may respond instead of a JWKS.
func TestBadResponses(t *testing.T) {
	elsewhere := newIssuer(t, jwks(t, "rsa"))
	zeros := make([]byte, 1<<20)
	for name, tt := range map[string]struct {
		respond http.HandlerFunc
		want    string // in the error; empty: the keys are there
	}{
		"another host":   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "redirects to another host"},
		"another scheme": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://"+r.Host, http.StatusFound) }, "redirects to another host"},
		"another port": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusMovedPermanently)
		}, "redirects to another host"},
		"a file": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, "redirects to another host"},
		"a loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, "redirects more than"},
		"same host": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/keys" {
				http.Redirect(w, r, "/keys", http.StatusFound)
				return
			}
			_, _ = io.WriteString(w, jwks(t, "rsa"))
		}, ""},
		"50 MB": {func(w http.ResponseWriter, r *http.Request) {
			for range 50 {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		}, "longer than"},
		"50 MB announced": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(50<<20))
			_, _ = w.Write(zeros)
			_, _ = w.Write(zeros)
		}, "longer than"},
		"404":        {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) }, "status 404"},
		"no content": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }, "status 204"},
		"a page":     {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<html>") }, "not a JSON Web Key Set"},
		"no keys":    {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) }, "no key for signatures"},
		"a cut":      {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"a cut inside": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "{")
		}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t, "")
			i.respond(tt.respond)
			r := create(t, Options{})
			s := newSource(&r.env, i.URL)
			err := s.load(context.Background())
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if (s.current.Load() != nil) != (tt.want == "") {
				t.Error(s.current.Load())
			}
		})
	}
	if n := elsewhere.hits.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
}

// A server that does not respond is given up in time, and does not keep a gateway from stopping.
func TestHangingServer(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL})
	arrived := make(chan struct{}, 10)
	i.respond(func(_ http.ResponseWriter, req *http.Request) {
		arrived <- struct{}{}
		<-req.Context().Done()
	})
	r.clock.Advance(fetchPause)
	waiting := r.begin(rs(t, "rsa2"))
	testkit.Await(t, arrived, "the request")
	r.clock.Advance(fetchTime)
	if got := testkit.Await(t, waiting, "the verification"); got.Outcome != UnknownKey {
		t.Error(got)
	}
	if !strings.Contains(r.log.String(), "no response within 10s") {
		t.Error(r.log)
	}
	r.scheduled(time.Second)
	r.clock.Advance(time.Second)
	testkit.Await(t, arrived, "the next request") // Stop cuts it
}

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := create(t, Options{JWKS: file})
	if err := r.Start(context.Background(), nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatal(err)
	}
	write(jwks(t, "rsa"))
	r.start()
	r.expect(rs(t, "rsa"), Valid)
	write(jwks(t, "rsa2"))
	r.clock.Advance(fetchPause)
	r.expect(rs(t, "rsa2"), Valid)
	write("half a f")
	r.scheduled(15 * time.Minute)
	r.clock.Advance(15 * time.Minute)
	r.scheduled(time.Second)
	r.expect(rs(t, "rsa2"), Valid)
}

func TestAnonymous(t *testing.T) {
	for who, want := range map[string][4]Outcome{ // without a token, with an expired one, with another's, if keys are missing
		AnonymousNever:   {Missing, Expired, Signature, Unavailable},
		AnonymousMissing: {Valid, Expired, Signature, Unavailable},
		AnonymousInvalid: {Valid, Valid, Valid, Unavailable},
	} {
		t.Run(who, func(t *testing.T) {
			i := newIssuer(t, "")
			r := run(t, Options{JWKS: i.URL, Secret: hmacSecret, Anonymous: who})
			tokens := []string{"", hs(t, `{"exp":1}`), hs(t, `{}`) + "x", rs(t, "rsa")}
			for n, token := range tokens {
				if got := r.ask(token); got.Outcome != want[n] || got.Grant != (Grant{}) {
					t.Errorf("%d: %v, want %v", n, got, want[n])
				}
			}
			// A token that a client sends in a request must be valid.
			for n, token := range tokens {
				done := make(chan Outcome, 1)
				if o, decided := r.Renew(token, func(_ Grant, o Outcome) { done <- o }); decided {
					done <- o
				}
				if got := testkit.Await(t, done, "a verification"); got == Valid {
					t.Errorf("%d is accepted", n)
				}
			}
		})
	}
}

func TestOff(t *testing.T) {
	r := run(t, Options{})
	r.expect("x", Valid)
	r.expect("", Valid)
	if r.On() || r.Find([]byte("/?t=x"), fieldList{{"Authorization", "Bearer x"}}) != (Found{}) {
		t.Error("tokens are looked for")
	}
}

// Tokens beyond the bound are rejected, and the log has none of all that.
func TestBusy(t *testing.T) {
	r := create(t, Options{Secret: hmacSecret})
	p, err := newPolicy(r.first, nil, wall)
	if err != nil {
		t.Fatal(err)
	}
	r.current.Store(p) // without workers
	var ended atomic.Int64
	long := strings.Repeat("x", 1<<20)
	n := 0
	for ; n < 1000; n++ {
		if o, decided := r.Verify(long, func(Grant, Outcome) { ended.Add(1) }); decided {
			if o != Busy {
				t.Error(o)
			}
			break
		}
	}
	if n != maxWaiting/len(long) {
		t.Errorf("%d tokens wait", n)
	}
	r.current.Store(nil)
	r.start()
	testkit.Until(t, "all have been verified", func() bool { return ended.Load() == int64(n) })
	if r.log.Count("token rejected") != 1 || strings.Contains(r.log.String(), "xxx") {
		t.Error(r.log)
	}
}

func TestLogIsLimited(t *testing.T) {
	r := run(t, Options{Secret: hmacSecret})
	token := hs(t, `{"exp":1}`)
	for range 100 {
		r.expect(token, Expired)
	}
	r.clock.Advance(logEvery)
	r.expect(token, Expired)
	if n := r.log.Count("token rejected"); n != 2 || !strings.Contains(r.log.String(), "suppressed=99") || strings.Contains(r.log.String(), token[:20]) {
		t.Error(r.log)
	}
	if n := r.env.Metrics.Outcomes[Expired].Load(); n != 101 {
		t.Errorf("%d counted", n)
	}
}

func TestPrepare(t *testing.T) {
	one, two := newIssuer(t, jwks(t, "rsa")), newIssuer(t, "")
	r := run(t, Options{})
	apply := func(o Options) error {
		o.Anonymous, o.Refresh = AnonymousNever, 15*time.Minute
		commit, err := r.Prepare(context.Background(), o)
		if err == nil {
			commit()
		}
		return err
	}
	if err := apply(Options{JWKS: one.URL}); err != nil {
		t.Fatal(err)
	}
	r.expect(rs(t, "rsa"), Valid)
	if err := apply(Options{JWKS: two.URL}); err == nil {
		t.Error("a JWKS without keys is used")
	}
	r.expect(rs(t, "rsa"), Valid)
	two.serve(jwks(t, "rsa2"))
	if err := apply(Options{JWKS: two.URL, Issuer: "x"}); err != nil {
		t.Fatal(err)
	}
	r.expect(rs(t, "rsa2"), Issuer)
	r.expect(rs(t, "rsa"), UnknownKey)
	if err := apply(Options{JWKS: two.URL, SecretFile: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a secret that is not there is used")
	}
	if err := apply(Options{JWKS: two.URL}); err != nil { // the same source
		t.Fatal(err)
	}
	r.expect(rs(t, "rsa2"), Valid)
	if err := apply(Options{Secret: hmacSecret}); err != nil {
		t.Fatal(err)
	}
	r.expect(rs(t, "rsa2"), Algorithm)
	r.expect(hs(t, `{}`), Valid)
	if err := apply(Options{}); err != nil {
		t.Fatal(err)
	}
	r.expect("x", Valid)
	testkit.Until(t, "no fetch is due any more", func() bool { _, ok := r.clock.Next(); return !ok })
}

// A reload while tokens are verified.
func TestPrepareWhileVerifying(t *testing.T) {
	i := newIssuer(t, jwks(t, "rsa"))
	r := run(t, Options{JWKS: i.URL})
	token := rs(t, "rsa")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				if got := testkit.Await(t, r.begin(token), "a verification"); got.Outcome != Valid {
					t.Errorf("%v", got)
				}
			}
		})
	}
	for n := range 20 {
		commit, err := r.Prepare(context.Background(), Options{JWKS: i.URL + fmt.Sprint("/", n%2), Anonymous: AnonymousNever, Refresh: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		commit()
	}
	all.Wait()
}

type fieldList [][2]string

func (l fieldList) Each(f func(name, value []byte)) {
	for _, p := range l {
		f([]byte(p[0]), []byte(p[1]))
	}
}

func TestFind(t *testing.T) {
	for name, tt := range map[string]struct {
		target string
		fields fieldList
		want   Found
		left   string // target and fields without the token
	}{
		"nothing":             {"/", nil, Found{}, "/"},
		"header":              {"/", fieldList{{"A", "b"}, {"authorization", "bearer  x.y "}}, Found{"x.y", InHeader, ""}, "/ A: b"},
		"another scheme":      {"/", fieldList{{"Authorization", "Basic x"}}, Found{}, "/ Authorization: Basic x"},
		"empty":               {"/", fieldList{{"Authorization", "Bearer "}}, Found{}, "/ Authorization: Bearer "},
		"two":                 {"/", fieldList{{"Authorization", "Bearer x"}, {"Authorization", "Bearer y"}}, Found{"x", InHeader, ""}, "/"},
		"cookie":              {"/", fieldList{{"Cookie", "a=b; jwt=x.y; c=d"}}, Found{"x.y", InCookie, "jwt"}, "/ Cookie: a=b; c=d"},
		"quoted cookie":       {"/", fieldList{{"Cookie", `jwt="x"`}}, Found{"x", InCookie, "jwt"}, "/"},
		"another cookie":      {"/", fieldList{{"Cookie", "xjwt=x; JWT=y"}}, Found{}, "/ Cookie: xjwt=x; JWT=y"},
		"empty cookie":        {"/", fieldList{{"Cookie", "jwt="}}, Found{}, "/ Cookie: jwt="},
		"header before all":   {"/?t=q", fieldList{{"Cookie", "jwt=c"}, {"Authorization", "Bearer h"}}, Found{"h", InHeader, ""}, "/?t=q Cookie: jwt=c"},
		"cookie before query": {"/?t=q", fieldList{{"Cookie", "jwt=c"}}, Found{"c", InCookie, "jwt"}, "/?t=q"},
		"query":               {"/a?b=c&t=x.y&d", nil, Found{"x.y", InQuery, "t"}, "/a?b=c&d"},
		"only query":          {"/a?t=x.y", nil, Found{"x.y", InQuery, "t"}, "/a"},
		"escaped":             {"/a?t=x%2Ey", nil, Found{"x.y", InQuery, "t"}, "/a"},
		"badly escaped":       {"/a?t=%zz", nil, Found{"%zz", InQuery, "t"}, "/a"},
		"empty query":         {"/a?t=", nil, Found{}, "/a?t="},
		"in the path":         {"/t=x", nil, Found{}, "/t=x"},
		"twice":               {"/a?t=x&t=y&u", nil, Found{"x", InQuery, "t"}, "/a?u"},
	} {
		t.Run(name, func(t *testing.T) {
			got := find("jwt", "t", []byte(tt.target), tt.fields)
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			left := string(got.Target([]byte(tt.target)))
			got.Fields(tt.fields).Each(func(name, value []byte) { left += fmt.Sprintf(" %s: %s", name, value) })
			if left != tt.left {
				t.Errorf("left is %q, want %q", left, tt.left)
			}
			_, query, _ := strings.Cut(tt.target, "?")
			if _, want, _ := strings.Cut(strings.Fields(tt.left)[0], "?"); got.Query(query) != want {
				t.Errorf("the query is %q, want %q", got.Query(query), want)
			}
		})
	}
	if got := find("", "", []byte("/?t=x"), fieldList{{"Cookie", "jwt=x"}}); got != (Found{}) {
		t.Errorf("%+v without settings", got)
	}
}

// FuzzFind: what is left of a request has no token.
func FuzzFind(f *testing.F) {
	f.Add("/?a=b&t=x", "jwt=y; a", "Bearer z")
	f.Fuzz(func(t *testing.T, target, cookie, authorization string) {
		fields := fieldList{{"Cookie", cookie}, {"Authorization", authorization}}
		found := find("jwt", "t", []byte(target), fields)
		var rest fieldList
		found.Fields(fields).Each(func(name, value []byte) { rest = append(rest, [2]string{string(name), string(value)}) })
		if again := find("jwt", "t", found.Target([]byte(target)), rest); found.Place != Nowhere && again.Place == found.Place {
			t.Fatalf("%+v, and then %+v", found, again)
		}
	})
}

// Every outcome has a response; none but Valid admits.
func TestResponses(t *testing.T) {
	for o := range Outcomes {
		meta, err := o.Meta(), o.Err()
		if (meta == nil) != (o == Valid) || (err == nil) != (o == Valid) || o.String() == "" {
			t.Errorf("%v: %v %v", o, meta, err)
			continue
		}
		if meta == nil {
			continue
		}
		_, challenged := meta.Header["Www-Authenticate"]
		if challenged != (meta.Status == http.StatusUnauthorized) || o.fault() && !challenged {
			t.Errorf("%v: %v", o, meta)
		}
	}
}
