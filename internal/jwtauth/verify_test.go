package jwtauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"sluice/internal/secret"
)

const hmacSecret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// now is the time of the tests.
var now = time.Unix(1_700_000_000, 0)

func wall() time.Time { return now }

// pair is a private key with its public one.
type pair struct {
	id      string
	private any
	public  any
}

// keys are made once, as RSA takes its time.
var keys = sync.OnceValue(func() map[string]pair {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	all := map[string]pair{}
	for _, id := range []string{"rsa", "rsa2"} {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		must(err)
		all[id] = pair{id, k, k.Public()}
	}
	for id, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
		all[id] = pair{id, k, k.Public()}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	all["ed"] = pair{"ed", private, public}
	return all
})

// jwks returns a JWKS with the public keys of these IDs.
func jwks(tb testing.TB, ids ...string) string {
	tb.Helper()
	var all []string
	for _, id := range ids {
		all = append(all, jwk(tb, keys()[id].public, jwkset.JWKMetadataOptions{KID: id}))
	}
	return `{"keys":[` + strings.Join(all, ",") + `]}`
}

func jwk(tb testing.TB, public any, meta jwkset.JWKMetadataOptions) string {
	tb.Helper()
	k, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: meta})
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(k.Marshal())
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// sign returns a token. header are further members of its header.
func sign(tb testing.TB, algorithm string, key any, header map[string]any, payload string) string {
	tb.Helper()
	h := map[string]any{"alg": algorithm, "typ": "JWT"}
	for name, v := range header {
		h[name] = v
	}
	text, err := json.Marshal(h)
	if err != nil {
		tb.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(text) + "." + encode([]byte(payload))
	if algorithm == "none" {
		return signed + "."
	}
	signature, err := jwt.GetSigningMethod(algorithm).Sign(signed, key)
	if err != nil {
		tb.Fatal(err)
	}
	return signed + "." + encode(signature)
}

func kid(id string) map[string]any { return map[string]any{"kid": id} }

// policyOf returns the policy of settings, with the keys of a JWKS if it is not empty.
func policyOf(tb testing.TB, o Options, set string) *policy {
	tb.Helper()
	for _, err := range o.Check(func(field string, err error) error { return fmt.Errorf("%s: %w", field, err) }) {
		tb.Fatal(err)
	}
	var s *source
	if set != "" {
		s = &source{}
		parsed, err := parseKeys([]byte(set))
		if err != nil {
			tb.Fatal(err)
		}
		s.current.Store(parsed)
	}
	p, err := newPolicy(o, s, wall)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestVerify(t *testing.T) {
	k := keys()
	all := jwks(t, "rsa", "p256", "p384", "p521", "ed")
	publicDER, err := x509.MarshalPKIXPublicKey(k["rsa"].public)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	const exp = 1_700_000_060
	claims := fmt.Sprintf(`{"sub":"me","exp":%d}`, exp)
	both := Options{JWKS: "x", Secret: hmacSecret}
	for name, tt := range map[string]struct {
		o     Options
		set   string
		token string
		want  Outcome
	}{
		"RS256":   {set: all, token: sign(t, "RS256", k["rsa"].private, kid("rsa"), claims)},
		"RS384":   {set: all, token: sign(t, "RS384", k["rsa"].private, kid("rsa"), claims)},
		"RS512":   {set: all, token: sign(t, "RS512", k["rsa"].private, kid("rsa"), claims)},
		"PS256":   {set: all, token: sign(t, "PS256", k["rsa"].private, kid("rsa"), claims)},
		"PS512":   {set: all, token: sign(t, "PS512", k["rsa"].private, kid("rsa"), claims)},
		"ES256":   {set: all, token: sign(t, "ES256", k["p256"].private, kid("p256"), claims)},
		"ES384":   {set: all, token: sign(t, "ES384", k["p384"].private, kid("p384"), claims)},
		"ES512":   {set: all, token: sign(t, "ES512", k["p521"].private, kid("p521"), claims)},
		"EdDSA":   {set: all, token: sign(t, "EdDSA", k["ed"].private, kid("ed"), claims)},
		"HS256":   {o: both, token: sign(t, "HS256", []byte(hmacSecret), nil, claims)},
		"HS512":   {o: both, token: sign(t, "HS512", []byte(hmacSecret), nil, claims)},
		"HS both": {o: both, set: all, token: sign(t, "HS256", []byte(hmacSecret), kid("rsa"), claims)},

		"none":                       {o: both, set: all, token: sign(t, "none", nil, nil, claims), want: Algorithm},
		"none, kid":                  {o: both, set: all, token: sign(t, "none", nil, kid("rsa"), claims), want: Algorithm},
		"None":                       {o: both, set: all, token: strings.Replace(sign(t, "none", nil, nil, claims), encoded(`{"alg":"none"`), encoded(`{"alg":"None"`), 1), want: Algorithm},
		"HMAC with the public key":   {o: Options{JWKS: "x"}, set: all, token: sign(t, "HS256", publicPEM, kid("rsa"), claims), want: Algorithm},
		"the same with a secret set": {o: both, set: all, token: sign(t, "HS256", publicPEM, kid("rsa"), claims), want: Signature},
		"HMAC with the DER key":      {o: both, set: all, token: sign(t, "HS256", publicDER, kid("rsa"), claims), want: Signature},
		"RSA without a JWKS":         {o: Options{Secret: hmacSecret}, token: sign(t, "RS256", k["rsa"].private, kid("rsa"), claims), want: Algorithm},
		"EC key for RSA":             {set: all, token: sign(t, "RS256", k["rsa"].private, kid("p256"), claims), want: Algorithm},
		"another curve":              {set: all, token: sign(t, "ES256", k["p256"].private, kid("p384"), claims), want: Algorithm},
		"not permitted":              {o: Options{JWKS: "x", Algorithms: []string{"ES256"}}, set: all, token: sign(t, "RS256", k["rsa"].private, kid("rsa"), claims), want: Algorithm},
		"permitted":                  {o: Options{JWKS: "x", Algorithms: []string{"ES256"}}, set: all, token: sign(t, "ES256", k["p256"].private, kid("p256"), claims)},
		"HS384 with a short secret":  {o: Options{Secret: secret.Key(hmacSecret[:32])}, token: sign(t, "HS384", []byte(hmacSecret[:32]), nil, claims), want: Algorithm},
		"the key's alg":              {set: `{"keys":[` + jwk(t, k["rsa"].public, jwkset.JWKMetadataOptions{KID: "rsa", ALG: jwkset.AlgPS256}) + `]}`, token: sign(t, "RS256", k["rsa"].private, kid("rsa"), claims), want: Algorithm},
		"another key's signature":    {set: jwks(t, "rsa", "rsa2"), token: sign(t, "RS256", k["rsa2"].private, kid("rsa"), claims), want: Signature},
		"another secret":             {o: both, token: sign(t, "HS256", []byte(strings.Repeat("x", 32)), nil, claims), want: Signature},
		"no kid":                     {set: jwks(t, "rsa", "rsa2", "p256"), token: sign(t, "RS256", k["rsa2"].private, nil, claims)},
		"unknown kid":                {set: all, token: sign(t, "RS256", k["rsa2"].private, kid("rsa2"), claims), want: UnknownKey},
		"kid is no string":           {set: all, token: sign(t, "RS256", k["rsa"].private, map[string]any{"kid": 1}, claims), want: Malformed},
		"critical extension":         {set: all, token: sign(t, "RS256", k["rsa"].private, map[string]any{"kid": "rsa", "crit": []string{"b64"}, "b64": false}, claims), want: Malformed},
		"key in the header":          {set: all, token: sign(t, "ES256", k["p256"].private, map[string]any{"jwk": json.RawMessage(jwk(t, k["p256"].public, jwkset.JWKMetadataOptions{})), "kid": "x"}, claims), want: UnknownKey},

		"expired":              {o: both, token: hs(t, `{"exp":1699999999}`), want: Expired},
		"ends now":             {o: both, token: hs(t, `{"exp":1700000000}`), want: Expired},
		"within the skew":      {o: Options{Secret: hmacSecret, Skew: time.Minute}, token: hs(t, `{"exp":1699999941}`)},
		"at the skew":          {o: Options{Secret: hmacSecret, Skew: time.Minute}, token: hs(t, `{"exp":1699999940}`), want: Expired},
		"not yet":              {o: both, token: hs(t, `{"nbf":1700000001}`), want: NotYetValid},
		"not yet, in the skew": {o: Options{Secret: hmacSecret, Skew: time.Minute}, token: hs(t, `{"nbf":1700000060}`)},
		"from now":             {o: both, token: hs(t, `{"nbf":1700000000}`)},
		"a fraction":           {o: both, token: hs(t, `{"exp":1700000000.5}`)},
		"no end":               {o: both, token: hs(t, `{}`)},
		"far end":              {o: both, token: hs(t, `{"exp":4503599627370496}`)},
		"absurd end":           {o: both, token: hs(t, `{"exp":1e300}`), want: Malformed},
		"exp is a string":      {o: both, token: hs(t, `{"exp":"1800000000"}`), want: Malformed},
		"exp is null":          {o: both, token: hs(t, `{"exp":null}`), want: Malformed},
		"EXP is another claim": {o: both, token: hs(t, `{"exp":1,"EXP":1800000000}`), want: Expired},

		"issuer":                {o: Options{Secret: hmacSecret, Issuer: "a"}, token: hs(t, `{"iss":"a"}`)},
		"another issuer":        {o: Options{Secret: hmacSecret, Issuer: "a"}, token: hs(t, `{"iss":"b"}`), want: Issuer},
		"issuer with a slash":   {o: Options{Secret: hmacSecret, Issuer: "a"}, token: hs(t, `{"iss":"a/"}`), want: Issuer},
		"no issuer":             {o: Options{Secret: hmacSecret, Issuer: "a", Audience: []string{"b"}}, token: hs(t, `{"aud":"b"}`), want: Issuer},
		"issuer is no string":   {o: Options{Secret: hmacSecret, Issuer: "a"}, token: hs(t, `{"iss":["a"]}`), want: Malformed},
		"audience":              {o: Options{Secret: hmacSecret, Audience: []string{"a", "b"}}, token: hs(t, `{"aud":"b"}`)},
		"audience in an array":  {o: Options{Secret: hmacSecret, Audience: []string{"a", "b"}}, token: hs(t, `{"aud":["c","b"]}`)},
		"another audience":      {o: Options{Secret: hmacSecret, Audience: []string{"a", "b"}}, token: hs(t, `{"aud":"c"}`), want: Audience},
		"others in an array":    {o: Options{Secret: hmacSecret, Audience: []string{"a", "b"}}, token: hs(t, `{"aud":["c","d"]}`), want: Audience},
		"no audience":           {o: Options{Secret: hmacSecret, Audience: []string{"a"}}, token: hs(t, `{}`), want: Audience},
		"empty array":           {o: Options{Secret: hmacSecret, Audience: []string{"a"}}, token: hs(t, `{"aud":[]}`), want: Audience},
		"audience is no string": {o: Options{Secret: hmacSecret, Audience: []string{"a"}}, token: hs(t, `{"aud":{"a":1}}`), want: Malformed},

		"empty parts":        {o: both, token: "..", want: Malformed},
		"two parts":          {o: both, token: "a.b", want: Malformed},
		"four parts":         {o: both, token: hs(t, `{}`) + ".x", want: Malformed},
		"many dots":          {o: both, token: strings.Repeat(".", MaxToken), want: Malformed},
		"padding":            {o: both, token: hs(t, `{}`) + "=", want: Malformed},
		"not base64":         {o: both, token: "!" + hs(t, `{}`), want: Malformed},
		"space":              {o: both, token: hs(t, `{}`) + " ", want: Malformed},
		"payload is null":    {o: both, token: hs(t, `null`), want: Malformed},
		"payload is a list":  {o: both, token: hs(t, `[]`), want: Malformed},
		"payload is no JSON": {o: both, token: hs(t, `{`), want: Malformed},
		"payload is no UTF8": {o: both, token: hs(t, "{\"a\":\"\xff\"}"), want: Malformed},
		"header is no JSON":  {o: both, token: encoded("x") + "." + encoded("{}") + ".", want: Malformed},
		"no alg":             {o: both, token: encoded("{}") + "." + encoded("{}") + ".", want: Algorithm},
		"alg is a number":    {o: both, token: encoded(`{"alg":1}`) + "." + encoded("{}") + ".", want: Algorithm},
		"unknown alg":        {o: both, token: encoded(`{"alg":"HS1"}`) + "." + encoded("{}") + ".", want: Algorithm},
		"no signature":       {o: both, token: hs(t, `{}`)[:strings.LastIndexByte(hs(t, `{}`), '.')+1], want: Signature},
		"huge":               {o: both, token: hs(t, `{"a":"`+strings.Repeat("x", MaxToken)+`"}`), want: Malformed},
		"an encrypted one":   {o: both, token: "a.b.c.d.e", want: Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			o := tt.o
			if tt.set != "" && o.JWKS == "" {
				o.JWKS = "x"
			}
			if tt.set == "" {
				o.JWKS = ""
			}
			g, got, _ := policyOf(t, o, tt.set).verify(tt.token, wall)
			if got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if got != Valid && g != (Grant{}) {
				t.Errorf("a rejected token grants %v", g)
			}
		})
	}
}

// hs returns a token signed with hmacSecret.
func hs(tb testing.TB, payload string) string {
	tb.Helper()
	return sign(tb, "HS256", []byte(hmacSecret), nil, payload)
}

// encoded is the base64 of text, whole groups only, so that it is the same within a longer text.
func encoded(text string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(text)[:len(text)/3*3]) + func() string {
		if len(text)%3 == 0 || strings.HasSuffix(text, "}") || len(text) == 1 {
			return base64.RawURLEncoding.EncodeToString([]byte(text)[len(text)/3*3:])
		}
		return ""
	}()
}

func TestKeysUnavailable(t *testing.T) {
	p, err := newPolicy(Options{JWKS: "x"}, &source{}, wall)
	if err != nil {
		t.Fatal(err)
	}
	if _, got, _ := p.verify(sign(t, "RS256", keys()["rsa"].private, kid("rsa"), `{}`), wall); got != Unavailable {
		t.Error(got)
	}
}

func TestGrant(t *testing.T) {
	const payload = `{ "sub":"me", "n":12345678901234567890, "exp":1700000060, "roles":["a","b"], "realm_access":{"roles":["x"], "a/b~c":{"deep":true}}, "https://example.com/org":7 }`
	for name, tt := range map[string]struct {
		claims []string
		tid    string
		skew   time.Duration
		want   Grant
	}{
		"all": {want: Grant{Token: strings.ReplaceAll(payload, " ", ""), TTL: time.Minute}},
		"skew": {claims: []string{"sub"}, skew: 5 * time.Second,
			want: Grant{Token: `{"sub":"me"}`, TTL: 65 * time.Second}},
		"template": {claims: []string{"n", "userId=sub", "roles=/realm_access/roles", "org=https://example.com/org", "none", "first=/roles/0", "beyond=/roles/2", "odd=/roles/x", "deep=/realm_access/a~1b~0c/deep", "under=/sub/x"},
			want: Grant{Token: `{"n":12345678901234567890,"userId":"me","roles":["x"],"org":7,"first":"a","deep":true}`, TTL: time.Minute}},
		"nothing": {claims: []string{"none"}, want: Grant{Token: `{}`, TTL: time.Minute}},
		"tid":     {claims: []string{"sub"}, tid: "sub", want: Grant{Token: `{"sub":"me"}`, TID: "me", TTL: time.Minute}},
		"number":  {claims: []string{"sub"}, tid: "n", want: Grant{Token: `{"sub":"me"}`, TID: "12345678901234567890", TTL: time.Minute}},
		"pointer": {claims: []string{"sub"}, tid: "/realm_access/roles/0", want: Grant{Token: `{"sub":"me"}`, TID: "x", TTL: time.Minute}},
		"list":    {claims: []string{"sub"}, tid: "roles", want: Grant{Token: `{"sub":"me"}`, TTL: time.Minute}},
		"missing": {claims: []string{"sub"}, tid: "jti", want: Grant{Token: `{"sub":"me"}`, TTL: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			p := policyOf(t, Options{Secret: hmacSecret, Claims: tt.claims, TID: tt.tid, Skew: tt.skew}, "")
			got, o, _ := p.verify(hs(t, payload), wall)
			if o != Valid || got != tt.want {
				t.Errorf("%v %+v, want %+v", o, got, tt.want)
			}
			if !json.Valid([]byte(got.Token)) {
				t.Error("the token is no JSON")
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		want string // part of the error; empty: none
	}{
		"short secret":      {Options{Secret: "geheim"}, "it has 6 bytes"},
		"two secrets":       {Options{Secret: hmacSecret, SecretFile: "f"}, "exclude each other"},
		"none":              {Options{Secret: hmacSecret, Algorithms: []string{"none"}}, "not safe"},
		"unknown":           {Options{Secret: hmacSecret, Algorithms: []string{"hs256"}}, "unknown"},
		"HS without secret": {Options{JWKS: "x", Algorithms: []string{"HS256"}}, "needs a secret"},
		"short for HS512":   {Options{Secret: secret.Key(hmacSecret[:40]), Algorithms: []string{"HS512"}}, "at least 64"},
		"RS without JWKS":   {Options{Secret: hmacSecret, Algorithms: []string{"RS256"}}, "needs public keys"},
		"claim twice":       {Options{Secret: hmacSecret, Claims: []string{"a", "a=b"}}, "the name a"},
		"no name":           {Options{Secret: hmacSecret, Claims: []string{"=b"}}, "name=claim"},
		"pointer as name":   {Options{Secret: hmacSecret, Claims: []string{"/a/b"}}, "needs a name"},
		"bad pointer":       {Options{Secret: hmacSecret, Claims: []string{"a=/b~2"}}, "~0"},
		"bad tid":           {Options{Secret: hmacSecret, TID: "/~"}, "~0"},
		"fine":              {Options{Secret: hmacSecret, JWKS: "x", Algorithms: []string{"HS256", "RS256"}, Claims: []string{"a", "b=/c"}, TID: "jti"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			errs := tt.o.Check(func(_ string, err error) error { return err })
			text := fmt.Sprint(errs)
			if (len(errs) > 0) != (tt.want != "") || !strings.Contains(text, tt.want) || strings.Contains(text, "geheim") {
				t.Error(text)
			}
		})
	}
}

func TestSecretFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{SecretFile: file}
	write(hmacSecret + "\r\n")
	if _, got, _ := policyOf(t, o, "").verify(hs(t, `{}`), wall); got != Valid {
		t.Error(got)
	}
	for text, want := range map[string]string{
		"short\n": "has 5 bytes", strings.Repeat("x", maxSecretFile+1): "longer than",
	} {
		write(text)
		if _, err := newPolicy(o, nil, wall); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "jwtSecretFile") {
			t.Error(err)
		}
	}
	o.SecretFile = file + ".none"
	if _, err := newPolicy(o, nil, wall); err == nil || !strings.Contains(err.Error(), "jwtSecretFile") {
		t.Error(err)
	}
	o.SecretFile, o.Algorithms = file, []string{"HS512"}
	write(hmacSecret[:40])
	if _, err := newPolicy(o, nil, wall); err == nil || !strings.Contains(err.Error(), "HS512 needs") {
		t.Error(err)
	}
}

func TestParseKeys(t *testing.T) {
	k := keys()
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := jwk(t, k["rsa"].public, jwkset.JWKMetadataOptions{KID: "a"})
	with := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	for name, tt := range map[string]struct {
		text string
		keys int // 0: an error
	}{
		"one":                 {with(rsaKey), 1},
		"further members":     {`{"x":1,"keys":[` + rsaKey + `]}`, 1},
		"none":                {with(), 0},
		"no list":             {`{}`, 0},
		"no JSON":             {`<html>`, 0},
		"null":                {`null`, 0},
		"a key alone":         {rsaKey, 0},
		"short":               {with(jwk(t, short.Public(), jwkset.JWKMetadataOptions{})), 0},
		"for encryption":      {with(jwk(t, k["rsa"].public, jwkset.JWKMetadataOptions{USE: jwkset.UseEnc})), 0},
		"for signatures":      {with(jwk(t, k["rsa"].public, jwkset.JWKMetadataOptions{USE: jwkset.UseSig})), 1},
		"to verify":           {with(jwk(t, k["rsa"].public, jwkset.JWKMetadataOptions{KEYOPS: []jwkset.KEYOPS{jwkset.KeyOpsVerify}})), 1},
		"to encrypt":          {with(jwk(t, k["rsa"].public, jwkset.JWKMetadataOptions{KEYOPS: []jwkset.KEYOPS{jwkset.KeyOpsEncrypt}})), 0},
		"for another purpose": {with(strings.Replace(rsaKey, "{", `{"alg":"RSA-OAEP",`, 1), rsaKey), 1},
		"a secret":            {with(`{"kty":"oct","kid":"a","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`), 0},
		"an unknown kind":     {with(`{"kty":"XY"}`, `{}`, `1`, rsaKey), 1},
		"a point elsewhere":   {with(`{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}`), 0},
		"too many":            {with(slices.Repeat([]string{"{}"}, maxKeys+1)...), 0},
		"X25519":              {with(`{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := parseKeys([]byte(tt.text))
			if n := func() int {
				if err != nil {
					return 0
				}
				return len(set.keys)
			}(); n != tt.keys {
				t.Errorf("%d keys, want %d; %v", n, tt.keys, err)
			}
		})
	}
}

// A private key in a JWKS, which should not be there, is used as the public one.
func TestPrivateKeyInJWKS(t *testing.T) {
	private := keys()["p256"]
	k, err := jwkset.NewJWKFromKey(private.private, jwkset.JWKOptions{Marshal: jwkset.JWKMarshalOptions{Private: true}, Metadata: jwkset.JWKMetadataOptions{KID: "p256"}})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(k.Marshal())
	set, err := parseKeys([]byte(`{"keys":[` + string(text) + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := set.keys[0].public.(*ecdsa.PublicKey); !ok {
		t.Errorf("%T", set.keys[0].public)
	}
}

// FuzzVerify: whatever a client sends is no panic, and a token that grants something has been
// signed.
func FuzzVerify(f *testing.F) {
	for _, token := range []string{hs(f, `{"sub":"me","exp":1800000000}`), "..", "a.b.c", sign(f, "ES256", keys()["p256"].private, kid("p256"), `{"aud":["a"]}`), sign(f, "none", nil, nil, `{}`)} {
		f.Add(token)
	}
	signed := hs(f, `{"sub":"me","exp":1800000000}`)
	p := policyOf(f, Options{JWKS: "x", Secret: secret.Key(strings.Repeat("another secret ", 4)), TID: "/a/b", Claims: []string{"a=/b/c", "d"}}, jwks(f, "rsa2"))
	f.Fuzz(func(t *testing.T, token string) {
		g, o, _ := p.verify(token, wall)
		if o == Valid {
			t.Fatalf("%q is valid: %v", token, g)
		}
		if _, o, _ := p.verify(signed+token, wall); o == Valid {
			t.Fatalf("%q is valid", signed+token)
		}
	})
}

// FuzzClaims: whatever an issuer signs gives a token that is a JSON object.
func FuzzClaims(f *testing.F) {
	for _, payload := range []string{`{}`, `{"a":{"b":[1,2]},"exp":1800000000}`, `{"a":"\ud800"}`, `{"a":1,"a":2}`} {
		f.Add(payload, "a", "/a/b/0")
	}
	f.Fuzz(func(t *testing.T, payload, claim, pointer string) {
		o := Options{Secret: hmacSecret, Claims: []string{"x=" + claim, "y=" + pointer}, TID: pointer}
		if len(o.Check(func(_ string, err error) error { return err })) > 0 {
			return
		}
		g, outcome, _ := policyOf(t, o, "").verify(hs(t, payload), wall)
		var object map[string]any
		if outcome == Valid && json.Unmarshal([]byte(g.Token), &object) != nil {
			t.Fatalf("%q gives %q", payload, g.Token)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := keys()
	p := policyOf(b, Options{JWKS: "x", Secret: hmacSecret, Issuer: "https://login.example.com/", Audience: []string{"gateway"}}, jwks(b, "rsa", "p256", "ed"))
	const payload = `{"iss":"https://login.example.com/","aud":"gateway","sub":"user-123456","exp":1700000060,"iat":1699999000,"scope":"openid profile","roles":["reader","writer"]}`
	for algorithm, token := range map[string]string{
		"HS256": sign(b, "HS256", []byte(hmacSecret), nil, payload),
		"RS256": sign(b, "RS256", k["rsa"].private, kid("rsa"), payload),
		"ES256": sign(b, "ES256", k["p256"].private, kid("p256"), payload),
		"EdDSA": sign(b, "EdDSA", k["ed"].private, kid("ed"), payload),
	} {
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, o, _ := p.verify(token, wall); o != Valid {
					b.Fatal(o)
				}
			}
		})
		b.Run(algorithm+"/again", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, o, _, _ := p.check(token, wall); o != Valid {
					b.Fatal(o)
				}
			}
		})
	}
}
