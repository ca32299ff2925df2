// Package example runs an example: a gateway with a NATS server inside, the example's service, and
// its page, in one process.
//
// It owns the process. The service and the page are the example's; the service talks to the gateway
// through NATS only, as a program of its own would. It serves pages, their
// style and the libraries in its table, and never another file. With -nats it runs a further
// gateway for the service of another process.
package example

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"

	"github.com/jirenius/go-res"
	"github.com/nats-io/nats.go"

	"sluice/gateway"
)

//go:embed style.css
var style []byte

// libraries are the files of npm packages that pages may load, by path below /lib/. They come from
// "npm ci" and "npm run build" in the folder examples.
var libraries = map[string]string{
	"resclient.js": "resclient/dist/resclient.min.js",
	"react.js":     ".browser/react.js", // bundled by "npm run build"
	"vue.js":       "vue/dist/vue.esm-browser.prod.js",
}

// stopWindow bounds the stop of the gateway.
const stopWindow = 5 * time.Second

// Run runs an example until Ctrl-C, and returns its exit code. web has the example's pages, with
// index.html as the first. Each change may alter the gateway's settings.
func Run(web fs.FS, service *res.Service, change ...func(*gateway.Config)) int {
	return RunBeside(web, service, func(*nats.Conn) (func(), error) { return func() {}, nil }, change...)
}

// RunBeside does as Run, and calls beside when the service is served: with its connection. The
// function that it returns is called at the end, while the connection is still there.
func RunBeside(web fs.FS, service *res.Service, beside func(nc *nats.Conn) (end func(), err error), change ...func(*gateway.Config)) int {
	port := flag.Int("port", 8080, "port of the page; -1: any free one")
	modules := flag.String("modules", "examples/node_modules", "folder of npm packages for the pages")
	url := flag.String("nats", "", "run a further gateway for the service at this NATS server, until the standard input ends")
	flag.Parse()
	if _, err := fs.Stat(os.DirFS(*modules), "."); err != nil {
		fmt.Fprintf(os.Stderr, "There is no folder %s: run \"make example NAME=…\" at the top of the tree, or \"npm ci && npm run build\" in the folder examples.\n", *modules)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := gateway.Config{
		Addr: "127.0.0.1", Port: *port, Pages: pages{web: web, modules: os.DirFS(*modules)},
		EmbeddedNATS: true, EmbeddedNATSListen: "127.0.0.1:0",
		DrainTimeout: gateway.Off,
		Log:          slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	start := func(ctx context.Context, g *gateway.Gateway) error { return serve(ctx, g, service, beside) }
	if *url != "" {
		c.EmbeddedNATS, c.EmbeddedNATSListen, c.NATSURL = false, "", gateway.NATSURL(*url)
		start = further
	}
	for _, f := range change {
		f(&c)
	}
	if err := run(ctx, c, start); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// run runs a gateway until beside returns.
func run(ctx context.Context, c gateway.Config, beside func(context.Context, *gateway.Gateway) error) (err error) {
	g, err := gateway.New(c)
	if err != nil {
		return err
	}
	if err := g.Start(ctx); err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.Background(), stopWindow)
		defer cancel()
		err = errors.Join(err, g.Stop(ending))
	}()
	return beside(ctx, g)
}

// further lets a gateway run until the standard input ends.
func further(ctx context.Context, g *gateway.Gateway) error {
	fmt.Printf("A further gateway is at http://%s/\n", g.Addr())
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return wait(ctx, g, ended)
}

// wait returns when ctx or the gateway ends, or ended is closed.
func wait(ctx context.Context, g *gateway.Gateway, ended <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-ended:
		return nil
	case err := <-g.Done():
		return err
	}
}

// serve runs the service at the gateway's NATS server.
func serve(ctx context.Context, g *gateway.Gateway, service *res.Service, beside func(nc *nats.Conn) (func(), error)) error {
	nc, err := nats.Connect(g.NATSURL().Reveal(), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	serving, served := make(chan struct{}), make(chan error, 1)
	service.SetOnServe(func(*res.Service) { close(serving) })
	service.SetLogger(nil)
	go func() { served <- service.Serve(nc) }()
	select {
	case <-serving:
	case err := <-served:
		return err
	}
	// The server has the subscriptions once it answers a ping that is sent after them.
	if err := nc.FlushTimeout(stopWindow); err != nil {
		return err
	}
	end, err := beside(nc)
	if err != nil {
		return err
	}
	defer end()
	fmt.Printf("Open http://%s/ in two windows. Ctrl-C ends it.\n", g.Addr())
	return wait(ctx, g, nil)
}

// pages serves an example's pages and what they load.
type pages struct{ web, modules fs.FS }

// ServeHTTP implements http.Handler.
func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := path.Base(r.URL.Path)
	switch file := libraries[base]; {
	case r.URL.Path == "/":
		send(w, r, p.web, "index.html")
	case path.Ext(base) == ".html" && r.URL.Path == "/"+base:
		send(w, r, p.web, base)
	case r.URL.Path == "/style.css":
		http.ServeContent(w, r, "style.css", time.Time{}, bytes.NewReader(style))
	case file != "" && path.Dir(r.URL.Path) == "/lib":
		send(w, r, p.modules, file)
	case r.URL.Path == "/favicon.ico":
		w.WriteHeader(http.StatusNoContent)
	default:
		gateway.NotFound(w, r)
	}
}

// send serves a file. It is not http.ServeFileFS, which redirects from index.html.
func send(w http.ResponseWriter, r *http.Request, from fs.FS, file string) {
	content, err := fs.ReadFile(from, file)
	if err != nil {
		gateway.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, file, time.Time{}, bytes.NewReader(content))
}
