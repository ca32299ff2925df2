package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"sluice/internal/jwtauth"
)

// JWT returns the settings of clients' tokens. c has its defaults.
func (c *Config) JWT() jwtauth.Options {
	return jwtauth.Options{
		JWKS: c.JWTJWKS, Secret: c.JWTSecret, SecretFile: c.JWTSecretFile,
		Issuer: c.JWTIssuer, Audience: c.JWTAudience, Algorithms: c.JWTAlgorithms, Skew: c.JWTClockSkew,
		Cookie: c.JWTCookie, Query: c.JWTQuery, Anonymous: c.JWTAnonymous,
		Claims: c.JWTClaims, TID: c.JWTTID, Refresh: c.JWTRefresh, Method: c.JWTMethod,
	}
}

// checkJWT holds the rules about several settings of tokens.
func (c *Config) checkJWT() []error {
	o := c.JWT()
	if o.On() {
		return o.Check(func(field string, err error) error { return fmt.Errorf("%s: %w", jwtKeys[field], err) })
	}
	for _, s := range []struct {
		key string
		set bool
	}{
		{"jwtIssuer", o.Issuer != ""}, {"jwtAudience", len(o.Audience) > 0}, {"jwtAlgorithms", len(o.Algorithms) > 0},
		{"jwtCookie", o.Cookie != ""}, {"jwtQuery", o.Query != ""}, {"jwtAnonymous", o.Anonymous != jwtauth.AnonymousNever},
		{"jwtClaims", len(o.Claims) > 0}, {"jwtTid", o.TID != ""}, {"jwtMethod", o.Method != ""},
	} {
		if s.set {
			return []error{fmt.Errorf("%s: no token is verified without a key: set jwtJwks, jwtSecretFile or jwtSecret, too", s.key)}
		}
	}
	return nil
}

// jwtKeys are the settings of the fields of jwtauth.Options that its Check names.
var jwtKeys = map[string]string{"Secret": "jwtSecret", "Algorithms": "jwtAlgorithms", "Claims": "jwtClaims", "TID": "jwtTid"}

// jwtWarnings returns the risks that the settings of tokens take.
func (c *Config) jwtWarnings() (out []string) {
	o := c.JWT()
	if !o.On() {
		return nil
	}
	if u, err := url.Parse(o.JWKS); err == nil && u.Scheme == "http" && !loopbackHost(u.Hostname()) {
		out = append(out, "jwtJwks is fetched without TLS: anyone who can change the response on its way can sign tokens")
	}
	if len(o.Audience) == 0 {
		out = append(out, "jwtAudience is not set: tokens that the issuer has given to other services are valid here, too")
	}
	if o.Cookie != "" && c.AllowOrigin == "*" {
		out = append(out, "jwtCookie is used and allowOrigin is *: any page that a user visits can connect with the user's token; list your origins")
	}
	return out
}

// loopbackHost reports whether a host without a port is this machine.
func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// checkJWKS reports what is wrong with the location of a JWKS. It quotes nothing: a URL may have a
// credential.
func checkJWKS(s string) error {
	if !strings.Contains(s, "://") {
		return checkFile(s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("not a URL of the scheme https or http, nor a file: write it like https://login.example.com/.well-known/jwks.json")
	case u.User != nil:
		return errors.New("the URL has a user name: public keys need none, leave it out")
	}
	return nil
}

func checkNotEmpty(s string) error {
	if s == "" {
		return errors.New("an entry is empty: leave it out")
	}
	return nil
}

// checkParameter wants a name that a cookie or a query parameter can have without escapes.
func checkParameter(s string) error {
	for _, c := range s {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-_.", c) {
			return fmt.Errorf("%s has a character other than letters, digits, - _ and .: choose another name", show(s))
		}
	}
	return nil
}
