package jwtauth

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/internal/secret"
)

// Options are the settings. The zero value verifies nothing.
type Options struct {
	JWKS       string     // URL or file of the public keys; empty: none
	Secret     secret.Key // of HMAC; empty: none, or that in SecretFile
	SecretFile string
	Issuer     string   // required value of iss; empty: any
	Audience   []string // one of which aud must have; empty: any
	Algorithms []string // permitted; empty: all that the keys and the secret are for
	Skew       time.Duration
	Cookie     string // that may carry the token; empty: none
	Query      string // parameter that may carry the token; empty: none
	Anonymous  string // who is admitted without claims: see AnonymousNever and the others
	Claims     []string
	TID        string // claim that is the token ID; empty: none
	Refresh    time.Duration
	Method     string // auth method by which a WebSocket client sends a token; empty: none
}

// Values of Options.Anonymous.
const (
	AnonymousNever   = "never"   // only clients with a valid token are admitted
	AnonymousMissing = "missing" // those without a token are, too
	AnonymousInvalid = "invalid" // those whose token is rejected are, too
)

const (
	// MaxToken bounds a token, in bytes.
	MaxToken = 16 << 10
	// minSecret is the least length of an HMAC secret, in bytes: that of SHA-256 (RFC 7518 section
	// 3.2).
	minSecret = 32
	// maxSecretFile bounds the file of the secret, in bytes.
	maxSecretFile = 64 << 10
	// longestLife bounds the time to a token's end, so that it fits a time.Duration; one that ends
	// later has no end.
	longestLife = 100 * 365 * 24 * time.Hour
)

// On reports whether the settings have a key to verify tokens with.
func (o *Options) On() bool { return o.JWKS != "" || o.Secret != "" || o.SecretFile != "" }

// hmacAlgorithms are the algorithms with a secret, and the least length of it.
var hmacAlgorithms = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// Check returns what is wrong with the settings, but for files and servers. setting turns an error
// about a field into one about its setting.
func (o *Options) Check(setting func(field string, err error) error) []error {
	var errs []error
	fail := func(field string, err error) {
		if err != nil {
			errs = append(errs, setting(field, err))
		}
	}
	if o.Secret != "" && o.SecretFile != "" {
		fail("Secret", errors.New("the secret and a file of the secret exclude each other: leave one out"))
	}
	if o.Secret != "" {
		fail("Secret", checkSecret([]byte(o.Secret.Reveal())))
	}
	for _, a := range o.Algorithms {
		fail("Algorithms", o.checkAlgorithm(a))
	}
	_, err := parseFields(o.Claims)
	fail("Claims", err)
	_, err = parsePath(o.TID)
	fail("TID", err)
	return errs
}

func (o *Options) checkAlgorithm(a string) error {
	_, hmac := hmacAlgorithms[a]
	switch {
	case !hmac && !slices.Contains(publicAlgorithms, a):
		return errors.New("an algorithm is unknown or not safe: choose from " + strings.Join(publicAlgorithms, ", ") + ", HS256, HS384 and HS512")
	case hmac && o.Secret == "" && o.SecretFile == "":
		return fmt.Errorf("%s needs a secret: set one", a)
	case hmac && o.Secret != "" && len(o.Secret) < hmacAlgorithms[a]:
		return fmt.Errorf("%s needs a secret of at least %d bytes (RFC 7518 section 3.2)", a, hmacAlgorithms[a])
	case !hmac && o.JWKS == "":
		return fmt.Errorf("%s needs public keys: set their JWKS", a)
	}
	return nil
}

func checkSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("it has %d bytes: HS256 needs at least %d, chosen at random (RFC 7518 section 3.2)", len(secret), minSecret)
	}
	return nil
}

// policy is what the settings mean. It is immutable but for its cache.
type policy struct {
	o          Options
	parser     *jwt.Parser
	algorithms []string // permitted
	secret     []byte
	keys       *source // nil: no public keys
	fields     []field
	tid        path
	cache      *cache
}

// newPolicy returns the policy of valid settings, which are on. keys are those of o.JWKS. It reads
// the secret's file.
func newPolicy(o Options, keys *source, wall func() time.Time) (*policy, error) {
	p := &policy{o: o, keys: keys, secret: []byte(o.Secret.Reveal()), cache: newCache()}
	if o.SecretFile != "" {
		text, err := readFile(o.SecretFile, maxSecretFile)
		if err != nil {
			return nil, fmt.Errorf("jwtSecretFile: %w", err)
		}
		p.secret = []byte(strings.TrimRight(string(text), "\r\n"))
		if err := checkSecret(p.secret); err != nil {
			return nil, fmt.Errorf("jwtSecretFile %s: %w", o.SecretFile, err)
		}
	}
	var algorithms []string
	if keys != nil {
		algorithms = slices.Clone(publicAlgorithms)
	}
	for _, a := range slices.Sorted(maps.Keys(hmacAlgorithms)) {
		if len(p.secret) >= hmacAlgorithms[a] {
			algorithms = append(algorithms, a)
		}
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(algorithms, a) {
			return nil, fmt.Errorf("jwtAlgorithms: %s needs a secret of at least %d bytes (RFC 7518 section 3.2)", a, hmacAlgorithms[a])
		}
	}
	if len(o.Algorithms) > 0 {
		algorithms = slices.Clone(o.Algorithms)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithLeeway(max(o.Skew, 0)), jwt.WithTimeFunc(wall), jwt.WithStrictDecoding(),
	}
	if o.Issuer != "" {
		options = append(options, jwt.WithIssuer(o.Issuer))
	}
	if len(o.Audience) > 0 {
		options = append(options, jwt.WithAudience(o.Audience...))
	}
	p.parser, p.algorithms = jwt.NewParser(options...), algorithms
	p.fields, _ = parseFields(o.Claims) // Check has found no error
	p.tid, _ = parsePath(o.TID)
	return p, nil
}

// readFile reads a file of at most so many bytes.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: name a file that the user who runs Sluice can read", err)
	}
	defer func() { _ = f.Close() }()
	return readAll(f, most)
}

// Grant is what a valid token gives a connection.
type Grant struct {
	Token string        // raw JSON of what services see; empty: an anonymous client
	TID   string        // token ID; empty: none
	TTL   time.Duration // until the token ends, clock skew included; 0: it has no end
}

var (
	errAlgorithm   = errors.New("the key is not for this algorithm")
	errUnknownKey  = errors.New("no key has this ID")
	errUnavailable = errors.New("the keys have not been fetched")
	errCritical    = errors.New("an extension is critical") // RFC 7515 section 4.1.11
)

// verify verifies a token. For the outcome UnknownKey id is the key's.
func (p *policy) verify(token string, now func() time.Time) (g Grant, o Outcome, id string) {
	if len(token) > MaxToken {
		return Grant{}, Malformed, ""
	}
	c := &claims{}
	t, err := p.parser.ParseWithClaims(token, c, func(t *jwt.Token) (any, error) {
		var ok bool
		if id, ok = t.Header["kid"].(string); !ok && t.Header["kid"] != nil {
			return nil, jwt.ErrTokenMalformed
		}
		if t.Header["crit"] != nil {
			return nil, errCritical
		}
		return p.keysFor(t.Method.Alg(), id)
	})
	switch {
	case err == nil && c.raw == nil: // the payload is null
		return Grant{}, Malformed, ""
	case err != nil && t != nil && t.Method != nil && !slices.Contains(p.algorithms, t.Method.Alg()):
		return Grant{}, Algorithm, ""
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing) && (p.o.Issuer == "" || c.iss != ""):
		return Grant{}, Audience, ""
	case err != nil:
		return Grant{}, outcomeOf(err), id
	}
	g = Grant{Token: c.token(p.fields), TID: c.id(p.tid)}
	if c.exp != nil {
		if g.TTL = c.exp.Add(max(p.o.Skew, 0)).Sub(now()); g.TTL > longestLife {
			g.TTL = 0
		} else if g.TTL <= 0 {
			return Grant{}, Expired, "" // it has just ended
		}
	}
	return g, Valid, ""
}

// keysFor returns the keys that may verify a token. The algorithm decides whether that is the
// secret or a public key; the token's header has no say in it beyond that.
func (p *policy) keysFor(algorithm, id string) (any, error) {
	if hmacAlgorithms[algorithm] > 0 {
		return p.secret, nil // the parser permits the algorithm only with a secret that is long enough
	}
	set := p.keys.current.Load()
	if set == nil {
		return nil, errUnavailable
	}
	keys, known := set.candidates(algorithm, id)
	switch {
	case !known:
		return nil, errUnknownKey
	case len(keys) == 0:
		return nil, errAlgorithm
	}
	all := jwt.VerificationKeySet{Keys: make([]jwt.VerificationKey, len(keys))}
	for i := range keys {
		all.Keys[i] = keys[i]
	}
	return all, nil
}

func outcomeOf(err error) Outcome {
	for _, e := range [...]struct {
		err error
		o   Outcome
	}{
		{jwt.ErrTokenMalformed, Malformed}, {errCritical, Malformed},
		{errUnavailable, Unavailable}, {errUnknownKey, UnknownKey}, {errAlgorithm, Algorithm},
		{jwt.ErrTokenUnverifiable, Algorithm}, // an unknown one
		{jwt.ErrTokenExpired, Expired}, {jwt.ErrTokenNotValidYet, NotYetValid},
		{jwt.ErrTokenInvalidIssuer, Issuer}, {jwt.ErrTokenInvalidAudience, Audience},
		{jwt.ErrTokenRequiredClaimMissing, Issuer},
		{jwt.ErrTokenSignatureInvalid, Signature},
	} {
		if errors.Is(err, e.err) {
			return e.o
		}
	}
	return Malformed
}
