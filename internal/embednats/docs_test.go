package embednats

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// example returns the block with the given name of docs/edge.md or docs/clusters.md, as a file.
// Pairs of replacements give it free ports.
func example(t *testing.T, name string, replace ...string) string {
	t.Helper()
	file := "edge.md"
	if name == "node" {
		file = "clusters.md"
	}
	page, err := os.ReadFile("../../docs/" + file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```conf file=" + name + "\\.conf\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatalf("the page has no block conf file=%s.conf", name)
	}
	text := string(m[1])
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the block conf %s has no %s", name, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	path := filepath.Join(t.TempDir(), name+".conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The configurations of docs/edge.md do what the page says.
func TestDocumentedConfigurations(t *testing.T) {
	port := natstest.NewLeafPort(t)
	hub := natstest.Start(t, func(o *server.Options) {
		conf, err := server.ProcessConfigFile(example(t, "hub"))
		if err != nil {
			t.Fatal(err)
		}
		o.Users, o.LeafNode = conf.Users, conf.LeafNode
		port.Open(o)
	})
	service := hub.Client(nats.UserInfo("service", "change-me"))
	serve(t, service)

	settings := startSite(t, "nats://shop2:and-me@"+port.Addr())
	nc, _ := settings.client()
	asks(t, nc)

	site := startSite(t, "", func(o *Options) {
		o.File = example(t, "site", "127.0.0.1:4222", "127.0.0.1:-1", "home.example.com:7422", port.Addr())
	})
	nc, _ = site.client()
	asks(t, nc)
	denied := make(chan error, 10)
	scale, err := nats.Connect(site.URL(), nats.UserInfo("scale", "change-me"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer scale.Close()
	events, err := nc.SubscribeSync("event.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"event.till.change", "event.scale.change"} {
		if err := scale.Publish(subject, []byte("7")); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := events.NextMsg(testkit.Patience); err != nil || m.Subject != "event.scale.change" {
		t.Errorf("the service at the site: %v, %v", m, err)
	}
	if err := testkit.Await(t, denied, "the denial"); !strings.Contains(err.Error(), "event.till.change") {
		t.Errorf("denied: %v", err)
	}
}

// Three servers with the configuration of docs/clusters.md are a cluster.
func TestDocumentedCluster(t *testing.T) {
	c := natstest.StartCluster(t, 3, func(i int, o *server.Options) {
		conf, err := server.ProcessConfigFile(example(t, "node"))
		if err != nil {
			t.Fatal(err)
		}
		o.Users, o.LameDuckDuration = conf.Users, conf.LameDuckDuration
		o.Cluster.Name, o.Cluster.Username, o.Cluster.Password = conf.Cluster.Name, conf.Cluster.Username, conf.Cluster.Password
		for _, r := range o.Routes {
			r.User = conf.Routes[i].User
		}
	})
	serve(t, c.Nodes[0].Client(nats.UserInfo("service", "change-me-too")))
	gateway := c.Nodes[2].Client(nats.UserInfo("gateway", "change-me"))
	testkit.Until(t, "the service is known at the other servers", func() bool {
		m, err := gateway.Request("get.test", nil, testkit.Patience)
		return err == nil && string(m.Data) == "here"
	})
}
