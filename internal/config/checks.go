package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/res"
)

func oneOf(names ...string) func(string) error {
	return func(s string) error {
		for _, n := range names {
			if s == n {
				return nil
			}
		}
		return fmt.Errorf("%q is unknown: choose %s", s, strings.Join(names, " or "))
	}
}

func checkIP(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%q is not an IP address: write one such as 127.0.0.1 or ::1, or leave it empty for all", s)
	}
	return nil
}

func checkHostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not an address: write host:port, such as 127.0.0.1:4222", s)
	}
	return nil
}

func checkPath(s string) error {
	if s[0] != '/' || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '?' || r == '#' || r == 127 }) {
		return fmt.Errorf("%q is not a path: begin with / and use no space, ? or #", s)
	}
	return nil
}

func checkWSPath(s string) error {
	if s == HealthPath {
		return errors.New(HealthPath + " answers health checks: choose another path")
	}
	return checkPath(s)
}

// checkResourceMethod wants a resource name and a method, without a query.
func checkResourceMethod(s string) error {
	if i := strings.LastIndexByte(s, '.'); i > 0 && res.ValidName(s[:i]) && res.ValidPart(s[i+1:]) {
		return nil
	}
	return fmt.Errorf("%q is not a resource method: write it like auth.headers.login", s)
}

func checkMethod(s string) error {
	if !res.ValidPart(s) {
		return fmt.Errorf("%q is not a method name: use one word without dots, such as set", s)
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
		if err != nil || u.Scheme == "" || u.Host == "" || !strings.EqualFold(s, u.Scheme+"://"+u.Host) {
			return fmt.Errorf("%q is not an origin: write * or <scheme>://<host>[:<port>], several separated by ;", s)
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
		return p, fmt.Errorf("%q is not a network: write it like 10.0.0.0/8 or fd00::/8, or a single address", s)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits beyond its length: did you mean %s?", s, p.Masked())
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
		return fmt.Errorf("tlsCert %q names no file before or after a %s: remove it", certs, fileSeparator)
	case slices.Contains(k, ""):
		return fmt.Errorf("tlsKey %q names no file before or after a %s: remove it", keys, fileSeparator)
	}
	return nil
}

// fileSeparator separates the files of tlsCert and of tlsKey.
const fileSeparator = ";"

func splitFiles(list string) []string { return strings.Split(list, fileSeparator) }
