package embednats

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// missedPings is how many pings without a pong end a connection.
const missedPings = 2

// Of a link to a hub far away, whose packets get lost.
const (
	linkTimeout   = 5 * time.Second        // of dialling, of the TLS handshake and of the hub's greeting
	linkReconnect = 500 * time.Millisecond // pause between attempts, plus up to the same at random
)

// settings returns nats-server's options, and sets how the gateway authenticates itself.
func (e *Server) settings(o *Options) (*server.Options, error) {
	s := new(server.Options)
	if o.File != "" {
		var err error
		if s, err = server.ProcessConfigFile(o.File); err != nil {
			return nil, fmt.Errorf("embeddedNatsConfig: %s", redact(err))
		}
	}
	s.NoSigs = true
	if s.Host == "" && s.Port == 0 {
		if err := listen(s, o.Listen); err != nil {
			return nil, fmt.Errorf("embeddedNatsListen: %w", err)
		}
	}
	if s.ServerName == "" {
		host, _ := os.Hostname() // only for display; the rest keeps it unique
		s.ServerName = strings.Join(strings.Fields("sluice "+host+" "+rand.Text()[:8]), "-")
	}
	if s.PingInterval == 0 {
		s.PingInterval = o.Ping
	}
	if s.MaxPingsOut == 0 {
		s.MaxPingsOut = missedPings
	}
	if err := permit(s, o); err != nil {
		return nil, err
	}
	if err := secure(s, o.Cert, o.Key, o.ClientCA); err != nil {
		return nil, err
	}
	if !o.Insecure {
		if err := open(s); err != nil {
			return nil, err
		}
	}
	if err := remote(s, &o.Leaf); err != nil {
		return nil, err
	}
	return s, e.admit(s)
}

// listen sets where the server listens.
func listen(s *server.Options, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return errors.New("the port is not a number up to 65535")
	}
	s.Host, s.Port = host, int(n)
	if n == 0 {
		s.Port = server.RANDOM_PORT
	}
	return nil
}

// permit sets who may connect.
func permit(s *server.Options, o *Options) error {
	if o.Users == "" && o.Token == "" && len(o.Nkeys) == 0 {
		return nil
	}
	if authenticates(s) {
		return errors.New("embeddedNatsConfig has an authorization of its own: remove embeddedNatsUsers, embeddedNatsToken and embeddedNatsNkeys, or that")
	}
	for text := range strings.SplitSeq(o.Users.Reveal(), ";") {
		if text == "" {
			continue
		}
		name, password, ok := strings.Cut(text, ":")
		if !ok || name == "" || password == "" {
			return errors.New("embeddedNatsUsers: write name:password, several separated by ;")
		}
		s.Users = append(s.Users, &server.User{Username: name, Password: password})
	}
	s.Authorization = o.Token.Reveal()
	for _, key := range o.Nkeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return errors.New("embeddedNatsNkeys: write the public key of a user, which begins with U")
		}
		s.Nkeys = append(s.Nkeys, &server.NkeyUser{Nkey: key})
	}
	return nil
}

// secure turns TLS on for clients.
func secure(s *server.Options, cert, key, ca string) error {
	if cert == "" {
		return nil
	}
	if s.TLSConfig != nil {
		return errors.New("embeddedNatsConfig has a tls block: remove that or embeddedNatsTlsCert")
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("embeddedNatsTlsCert: %w", err)
	}
	s.TLS, s.TLSTimeout = true, linkTimeout.Seconds()
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if ca != "" {
		s.TLSVerify = true
		s.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
		if s.TLSConfig.ClientCAs, err = authorities([]string{ca}); err != nil {
			return fmt.Errorf("embeddedNatsClientCa: %w", err)
		}
	}
	return nil
}

// authorities reads certificates of authorities.
func authorities(files []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", file)
		}
	}
	return pool, nil
}

// authenticates reports whether clients have to authenticate themselves.
func authenticates(s *server.Options) bool {
	return s.Username != "" || s.Authorization != "" || len(s.Users) > 0 || len(s.Nkeys) > 0 || s.AuthCallout != nil || managed(s)
}

// managed reports whether an operator manages the accounts.
func managed(s *server.Options) bool { return len(s.TrustedOperators) > 0 || len(s.TrustedKeys) > 0 }

// open returns an error if anyone who reaches one of the server's ports may use it.
func open(s *server.Options) error {
	verified := func(c *tls.Config) bool { return c != nil && c.ClientAuth == tls.RequireAndVerifyClientCert }
	clients := authenticates(s) && s.NoAuthUser == ""
	l, c := &s.LeafNode, &s.Cluster
	for _, port := range []struct {
		name, host string
		opened     bool
		safe       bool
	}{
		{"clients", s.Host, true, clients || verified(s.TLSConfig)},
		{"WebSocket clients", s.Websocket.Host, s.Websocket.Port != 0, clients || s.Websocket.Username != "" || s.Websocket.Token != "" || verified(s.Websocket.TLSConfig)},
		{"MQTT clients", s.MQTT.Host, s.MQTT.Port != 0, clients || s.MQTT.Username != "" || s.MQTT.Token != "" || verified(s.MQTT.TLSConfig)},
		{"leaf nodes", l.Host, l.Port != 0, clients || l.Username != "" || l.Nkey != "" || len(l.Users) > 0 || verified(l.TLSConfig)},
		{"routes", c.Host, c.Port != 0, c.Username != "" || verified(c.TLSConfig)},
	} {
		if port.opened && !port.safe && !loopback(port.host) {
			return fmt.Errorf("its port for %s listens beyond this machine without authentication, so anyone who reaches it can act as a service: "+
				"set embeddedNatsUsers, embeddedNatsToken, embeddedNatsNkeys, embeddedNatsClientCa or an authorization in embeddedNatsConfig; "+
				"listen on 127.0.0.1; or set embeddedNatsInsecure if the network is closed", port.name)
		}
	}
	return nil
}

// loopback reports whether only this machine reaches a host's address.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// remote adds the link to the hub.
func remote(s *server.Options, l *Leaf) error {
	if n := &s.LeafNode; len(n.Remotes) > 0 || l.URLs != "" {
		if n.ReconnectInterval == 0 {
			n.ReconnectInterval = linkReconnect
		}
		if n.DialTimeout == 0 {
			n.DialTimeout = linkTimeout
		}
		for _, r := range n.Remotes {
			patient(r)
		}
	}
	if l.URLs == "" {
		return nil
	}
	r := &server.RemoteLeafOpts{Credentials: l.Creds, LocalAccount: account(s)}
	for _, text := range l.URLs.List() {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return errors.New("natsLeaf: write each address as nats://host:port, tls://host:port, ws://host:port or wss://host:port")
		}
		r.URLs = append(r.URLs, u)
		r.TLS = r.TLS || u.Scheme == "tls"
	}
	if l.Nkey != "" {
		seed, err := Seed(l.Nkey)
		if err != nil {
			return fmt.Errorf("natsNkey: %w", err)
		}
		r.Nkey = seed
	}
	if l.Cert != "" || len(l.RootCAs) > 0 {
		r.TLS, r.TLSConfig = true, &tls.Config{MinVersion: tls.VersionTLS12}
		if l.Cert != "" {
			pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
			if err != nil {
				return fmt.Errorf("natsCert: %w", err)
			}
			r.TLSConfig.Certificates = []tls.Certificate{pair}
		}
		if len(l.RootCAs) > 0 {
			pool, err := authorities(l.RootCAs)
			if err != nil {
				return fmt.Errorf("natsRootCAs: %w", err)
			}
			r.TLSConfig.RootCAs = pool
		}
	}
	patient(r)
	s.LeafNode.Remotes = append(s.LeafNode.Remotes, r)
	return nil
}

// patient gives a link the time that one to a hub far away takes.
func patient(r *server.RemoteLeafOpts) {
	if r.FirstInfoTimeout == 0 {
		r.FirstInfoTimeout = linkTimeout
	}
	if r.TLSTimeout == 0 {
		r.TLSTimeout = linkTimeout.Seconds()
	}
}

// Seed reads the seed of a user's nkey from a file.
func Seed(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "SU") {
			if _, err := nkeys.FromSeed([]byte(line)); err == nil {
				return line, nil
			}
		}
	}
	return "", fmt.Errorf("%s has no seed of a user, which begins with SU", file)
}

// account returns the name of the account that the gateway belongs to: that of the first remote in
// the configuration file, else that of no_auth_user, else the global one (empty).
func account(s *server.Options) string {
	for _, r := range s.LeafNode.Remotes {
		if r.LocalAccount != "" {
			return r.LocalAccount
		}
	}
	for _, u := range s.Users {
		if u.Username == s.NoAuthUser && u.Account != nil {
			return u.Account.Name
		}
	}
	return ""
}

// admit adds a user for the gateway if clients have to authenticate themselves, with a key that
// exists only in memory.
func (e *Server) admit(s *server.Options) (err error) {
	switch {
	case managed(s):
		e.creds = true
		return nil
	case !authenticates(s):
		return nil
	}
	if e.user, err = nkeys.CreateUser(); err != nil {
		return err
	}
	if e.key, err = e.user.PublicKey(); err != nil {
		return err
	}
	u := &server.NkeyUser{Nkey: e.key}
	if name := account(s); name != "" {
		for _, a := range s.Accounts {
			if a.Name == name {
				u.Account = a
			}
		}
		if u.Account == nil {
			return fmt.Errorf("embeddedNatsConfig has no account %s, which a remote names", name)
		}
	}
	s.Nkeys = append(s.Nkeys, u)
	return nil
}

// quoted matches what a parser's error quotes of its input, which may be a password.
var quoted = regexp.MustCompile(`'[^']*'|"[^"]*"`)

func redact(err error) string { return quoted.ReplaceAllString(err.Error(), "…") }
