package config

import (
	"errors"
	"fmt"
	"log/slog"

	"sluice/internal/embednats"
	"sluice/internal/natsbus"
)

// checkNATS holds the rules about more than one setting of NATS. c has its defaults.
func (c *Config) checkNATS() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (c.NATSCert == "") != (c.NATSKey == "") {
		fail("natsCert and natsKey belong together: set both or none")
	}
	if c.NATSCreds != "" && c.NATSNkey != "" {
		fail("natsCreds and natsNkey exclude each other: leave natsNkey out, a credentials file has a key, too")
	}
	if !c.EmbeddedNATS {
		for _, s := range []struct {
			key string
			set bool
		}{
			{"natsLeaf", c.NATSLeaf != ""}, {"embeddedNatsConfig", c.EmbeddedNATSConfig != ""},
			{"embeddedNatsUsers", c.EmbeddedNATSUsers != ""}, {"embeddedNatsToken", c.EmbeddedNATSToken != ""},
			{"embeddedNatsNkeys", len(c.EmbeddedNATSNkeys) > 0}, {"embeddedNatsTlsCert", c.EmbeddedNATSTLSCert != ""},
		} {
			if s.set {
				fail("%s is for the embedded server: set embeddedNats, too", s.key)
			}
		}
		return errs
	}
	if c.NATSURL != DefaultNATSURL {
		fail("embeddedNats and natsUrl (%v) exclude each other: leave one out; the address of a hub goes into natsLeaf", c.NATSURL)
	}
	if (c.EmbeddedNATSTLSCert == "") != (c.EmbeddedNATSTLSKey == "") {
		fail("embeddedNatsTlsCert and embeddedNatsTlsKey belong together: set both or none")
	}
	if c.EmbeddedNATSClientCA != "" && c.EmbeddedNATSTLSCert == "" {
		fail("embeddedNatsClientCa needs TLS: set embeddedNatsTlsCert and embeddedNatsTlsKey, too")
	}
	if c.EmbeddedNATSConfig == "" && !c.EmbeddedNATSInsecure && !c.embeddedAuth() && !loopback(c.EmbeddedNATSListen) {
		errs = append(errs, errors.New("the embedded NATS server would listen on "+c.EmbeddedNATSListen+" without authentication, so anyone who reaches it could act as a service: "+
			"set embeddedNatsUsers, embeddedNatsToken, embeddedNatsNkeys or embeddedNatsClientCa, listen on 127.0.0.1, or set embeddedNatsInsecure if the network is closed"))
	}
	return errs
}

// embeddedAuth reports whether settings let only certain clients connect to the embedded server.
func (c *Config) embeddedAuth() bool {
	return c.EmbeddedNATSUsers != "" || c.EmbeddedNATSToken != "" || len(c.EmbeddedNATSNkeys) > 0 || c.EmbeddedNATSClientCA != ""
}

// EmbeddedNATSOptions returns the options of the embedded NATS server, but for what the gateway
// makes. c has its defaults.
func (c *Config) EmbeddedNATSOptions(log *slog.Logger) embednats.Options {
	return embednats.Options{
		Listen:   c.EmbeddedNATSListen,
		File:     c.EmbeddedNATSConfig,
		Insecure: c.EmbeddedNATSInsecure,
		Users:    c.EmbeddedNATSUsers,
		Token:    c.EmbeddedNATSToken,
		Nkeys:    c.EmbeddedNATSNkeys,
		Cert:     c.EmbeddedNATSTLSCert,
		Key:      c.EmbeddedNATSTLSKey,
		ClientCA: c.EmbeddedNATSClientCA,
		Leaf: embednats.Leaf{
			URLs:    c.NATSLeaf,
			Creds:   c.NATSCreds,
			Nkey:    c.NATSNkey,
			Cert:    c.NATSCert,
			Key:     c.NATSKey,
			RootCAs: c.NATSRootCAs,
		},
		Ping:  c.NATSPing,
		Log:   log,
		Trace: LevelTrace,
	}
}

// NATSOptions returns the options of the connections to NATS, but for what the gateway makes. e is
// the embedded server; nil: there is none. c has its defaults.
func (c *Config) NATSOptions(e *embednats.Server) natsbus.Options {
	o := natsbus.Options{
		URL:            c.NATSURL,
		Name:           "sluice",
		Creds:          c.NATSCreds,
		Nkey:           c.NATSNkey,
		Cert:           c.NATSCert,
		Key:            c.NATSKey,
		RootCAs:        c.NATSRootCAs,
		Conns:          c.NATSConnections,
		Wildcards:      c.NATSWildcards,
		ConnectTimeout: c.NATSTimeout,
		Ping:           c.NATSPing,
		Beat:           c.NATSClusterPing,
		PendingLimit:   max(c.BufferSize, minPending),
	}
	if e != nil { // the credentials are those of the leaf link
		o.InProcess, o.UserKey, o.Sign = e.InProcessConn, e.UserKey(), e.Sign
		o.Nkey, o.Cert, o.Key, o.RootCAs = "", "", "", nil
		if !e.NeedsCreds() {
			o.Creds = ""
		}
	}
	return o
}

// minPending is the least length of a dispatcher's queue, in messages, whatever bufferSize is: its
// default is Resgate's 8192, which files written by Resgate have. When thousands of clients
// reconnect, that many replies arrive in one burst. A full queue is a gap, after which everything
// cached is refetched. A place in the queue costs a pointer.
const minPending = 1 << 16
