package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/gateway"
	"sluice/internal/demo"
	"sluice/internal/embednats"
	"sluice/internal/natsbus"
)

// demoService is a gateway that serves the demo's page, and the demo's service
// on the same NATS server.
type demoService struct {
	*gateway.Gateway
	demo *demo.Demo
	out  io.Writer
	host string // as a browser on this machine may write it
	tls  bool
}

// demo builds the service of "sluice demo". It takes the gateway's settings;
// what they leave open is chosen so that it runs on a fresh machine.
func (p *process) demo(c gateway.Config) (service, error) {
	listen := ""
	if c.NATSURL == "" && !c.EmbeddedNATS && c.EmbeddedNATSListen == "" && !free(c.WithDefaults().EmbeddedNATSListen) {
		listen = "127.0.0.1:0"
		c.Log.Warn("another NATS server holds the usual port: the demo's own takes a free one")
	}
	c = demoDefaults(c, listen)
	if read := c.Reread; read != nil {
		c.Reread = func() (gateway.Config, []string, error) {
			next, warnings, err := read()
			return demoDefaults(next, listen), warnings, err
		}
	}
	s := &demoService{out: p.stdout, host: c.Addr, tls: c.TLS}
	if c.Addr == "" || c.Addr == gateway.AllAddresses || c.Addr == "0.0.0.0" || c.Addr == "::" {
		s.host = "localhost"
	}
	options, err := natsbus.Credentials(c.NATSCreds, c.NATSNkey, c.NATSCert, c.NATSKey, c.NATSRootCAs)
	if err != nil {
		return nil, err
	}
	s.demo, err = demo.New(demo.Options{
		URL:      c.NATSURL, // for messages: toGateway has the last word
		NATS:     append(options, s.toGateway),
		WSPath:   c.WSPath,
		Log:      c.Log,
		NotFound: gateway.NotFound,
	})
	if err != nil {
		return nil, err
	}
	c.Pages = s.demo.Pages()
	if s.Gateway, err = gateway.New(c); err != nil {
		return nil, err
	}
	return s, nil
}

// toGateway points the demo's connection to the server that the gateway uses,
// whose port may only be known once it runs. At the embedded one it is the same
// user as the gateway.
func (s *demoService) toGateway(o *nats.Options) error {
	o.Servers = s.NATSURL().List()
	e := s.Embedded()
	if e == nil {
		return nil
	}
	o.InProcessServer = inProcess{e}
	o.Secure, o.TLSConfig, o.TLSCertCB, o.RootCAsCB = false, nil, nil, nil // those of the leaf link, as the credentials
	if e.NeedsCreds() {
		return nil
	}
	o.UserJWT, o.Nkey, o.SignatureCB = nil, e.UserKey(), nil
	if o.Nkey != "" {
		o.SignatureCB = e.Sign
	}
	return nil
}

// inProcess connects the demo to the embedded server as nats.go asks for.
type inProcess struct{ server *embednats.Server }

func (p inProcess) InProcessConn() (net.Conn, error) {
	return p.server.InProcessConn(context.Background()) // which bounds the wait
}

// demoDefaults fills in what the settings leave open. listen is where the embedded NATS server of
// this demo listens, empty for its default.
func demoDefaults(c gateway.Config, listen string) gateway.Config {
	if c.NATSURL == "" && !c.EmbeddedNATS {
		c.EmbeddedNATS = true
		c.EmbeddedNATSListen = cmp.Or(c.EmbeddedNATSListen, listen)
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = gateway.Off // Ctrl-C ends the demo at once
	}
	return c
}

// Start starts the gateway, then the demo, and says where to look.
func (s *demoService) Start(ctx context.Context) error {
	if err := s.Gateway.Start(ctx); err != nil {
		return err
	}
	if err := s.demo.Start(); err != nil {
		ended, cancel := context.WithCancel(ctx)
		cancel() // nobody is connected yet: nothing to drain
		_ = s.Gateway.Stop(ended)
		return err
	}
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		return err
	}
	scheme := "http"
	if s.tls {
		scheme = "https"
	}
	fmt.Fprintf(s.out, "Sluice demo: %s://%s/\nServices can join at %s\nCtrl-C ends it.\n",
		scheme, net.JoinHostPort(s.host, port), s.NATSURL())
	return nil
}

// Stop ends the demo's service while NATS is still there, then the gateway.
func (s *demoService) Stop(ctx context.Context) error {
	s.demo.Stop()
	return s.Gateway.Stop(ctx)
}

// free reports whether no program listens on an address. It asks by connecting: a listener of its
// own, however short-lived, would accept and then lose the connection of a service that comes in
// that moment.
func free(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, freeTimeout)
	if err != nil {
		return true
	}
	_ = c.Close()
	return false
}

// freeTimeout bounds the wait for an address that does not answer.
const freeTimeout = time.Second
