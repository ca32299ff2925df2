package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/res"
	"sluice/internal/secret"
)

func checkIP(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%s is not an IP address: write one such as 127.0.0.1 or ::1, or leave it empty for all", show(s))
	}
	return nil
}

func checkHostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s is not an address: write host:port, such as 127.0.0.1:4222", show(s))
	}
	return nil
}

// checkLeaf quotes nothing of an address: it may have a password.
func checkLeaf(urls secret.URLs) error {
	for _, s := range urls.List() {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New("write each address as nats://host:port, tls://host:port, ws://host:port or wss://host:port; the port is that of the hub's leafnodes, 7422 by default")
		}
	}
	return urls.Check()
}

func checkWildcard(s string) error {
	if p, ok := res.ParsePattern(s); !ok || !p.Wild() {
		return fmt.Errorf("%s is not a pattern of resource names: write one such as ticker.> (all below) or ticker.*.price", show(s))
	}
	return nil
}

func checkUserKey(s string) error {
	if len(s) != 56 || s[0] != 'U' {
		return errors.New("write the public key of a user: 56 characters, of which the first is U") // it may be a seed
	}
	return nil
}

// checkDownstream wants the address of a NATS server, or none.
func checkDownstream(u secret.URLs) error {
	if u == "" {
		return nil
	}
	return u.Check()
}

// checkResourceMethod wants a resource name and a method, without a query.
func checkResourceMethod(s string) error {
	if i := strings.LastIndexByte(s, '.'); i > 0 && res.ValidName(s[:i]) && res.ValidPart(s[i+1:]) {
		return nil
	}
	return fmt.Errorf("%s is not a resource method: write it like auth.headers.login", show(s))
}

func checkMethod(s string) error {
	if !res.ValidPart(s) {
		return fmt.Errorf("%s is not a method name: use one word without dots, such as set", show(s))
	}
	return nil
}

// maxGatewayID bounds a gateway's ID, in bytes: it is part of NATS subjects.
const maxGatewayID = 64

func checkGatewayID(s string) error {
	other := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
	if other >= 0 || len(s) > maxGatewayID {
		return fmt.Errorf("%s is not a gateway's name: use letters, digits, - and _, %d at most", show(s), maxGatewayID)
	}
	return nil
}

func checkPowerOfTwo(n int) error {
	if n&(n-1) != 0 {
		lower := 1
		for lower*2 < n {
			lower *= 2
		}
		return fmt.Errorf("%d is not a power of two: choose %d or %d", n, lower, lower*2)
	}
	return nil
}

// checkOrigins reports what is wrong with an allowOrigin setting.
func checkOrigins(setting string) error {
	all := strings.Split(setting, ";")
	if slices.Contains(all, "*") {
		if len(all) > 1 {
			return errors.New("* already means every origin: write either * or a list")
		}
		return nil
	}
	for _, s := range all {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Opaque != "" || u.User != nil || u.Path != "" || len(u.Query()) > 0 || u.Fragment != "" {
			return fmt.Errorf("%s is not an origin: write * or <scheme>://<host>[:<port>], several separated by ;", show(s))
		}
	}
	return nil
}

// ParseNetworks reads address ranges such as 10.0.0.0/8; a single address is a
// range too. The error says which is wrong and what to write.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range texts {
		p, err := parseNetwork(s)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return p, fmt.Errorf("%s is not a network: write it like 10.0.0.0/8 or fd00::/8, or a single address", show(s))
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits beyond its length: did you mean %s?", show(s), p.Masked())
	}
	return p, nil
}

// checkNetwork is parseNetwork for the settings.
func checkNetwork(s string) error {
	_, err := parseNetwork(s)
	return err
}

// checkFileLists reports what is wrong with tlsCert and tlsKey before any file
// is read.
func checkFileLists(certs, keys string) error {
	c, k := splitFiles(certs), splitFiles(keys)
	switch {
	case certs == "" || keys == "":
		return errors.New("tls needs tlsCert and tlsKey: set both, or leave tls off")
	case len(c) != len(k):
		return fmt.Errorf("tlsCert names %d files and tlsKey %d: name one key for each certificate, in the same order", len(c), len(k))
	case slices.Contains(c, ""):
		return fmt.Errorf("tlsCert %s names no file before or after a %s: remove it", show(certs), fileSeparator)
	case slices.Contains(k, ""):
		return fmt.Errorf("tlsKey %s names no file before or after a %s: remove it", show(keys), fileSeparator)
	}
	return nil
}

// fileSeparator separates the files of tlsCert and of tlsKey.
const fileSeparator = ";"

func splitFiles(list string) []string { return strings.Split(list, fileSeparator) }

// show quotes a value for a message, unless it may be or hold a credential: it
// may have been meant for another setting.
func show(s string) string {
	if strings.Contains(s, "@") || len(s) > 100 || looksSecret(s) {
		return "the value (not shown, it may hold a secret)"
	}
	return strconv.Quote(s)
}

// looksSecret reports whether s looks like a key, a signed token or an NKEY seed.
func looksSecret(s string) bool {
	return strings.Contains(s, "-----BEGIN") || strings.Contains(s, "eyJ") || seed.MatchString(s)
}

// seed matches the seed of an NKEY.
var seed = regexp.MustCompile(`\bS[NCOAUX][A-Z2-7]{20,}\b`)

// checkSocket refuses what cannot be the path of a Unix socket (unix(7): 108 bytes with the final
// zero, 104 on other systems).
func checkSocket(path string) error {
	if len(path) > 103 || path != "" && path[0] != '/' {
		return errors.New("must be an absolute path of at most 103 bytes")
	}
	return nil
}

// checkFile refuses what is the content of a file rather than its name, so that
// no later message quotes it.
func checkFile(name string) error {
	if looksSecret(name) || strings.ContainsAny(name, "\n\r\x00") {
		return errors.New("must be the name of a file, not its content")
	}
	return nil
}
