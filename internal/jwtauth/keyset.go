package jwtauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
)

const (
	// maxKeys bounds the keys of a JWKS.
	maxKeys = 256
	// maxTried bounds the keys that a token without a key ID is tried with.
	maxTried = 8
	// minRSABits is the least length of an RSA key (RFC 7518 section 3.3).
	minRSABits = 2048
)

// key is a public key, with the algorithms that it is for.
type key struct {
	id         string
	algorithms []string
	public     any // as golang-jwt wants it
}

// keySet are the keys of a JWKS. It is immutable.
type keySet struct {
	keys    []key
	ignored int // keys that are not for signatures, or not usable
}

// publicAlgorithms are the algorithms with public keys that the gateway verifies.
var publicAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// parseKeys reads a JWKS (RFC 7517). Keys that are not usable are ignored, as a set may have keys
// for other purposes; one without a usable key is an error.
func parseKeys(text []byte) (*keySet, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	out := &keySet{}
	for _, raw := range set.Keys {
		if k, ok := parseKey(raw); ok {
			out.keys = append(out.keys, k)
		} else {
			out.ignored++
		}
	}
	if len(out.keys) == 0 {
		return nil, fmt.Errorf("no key for signatures among %d: RSA from %d bits, P-256, P-384, P-521 and Ed25519 are supported", len(set.Keys), minRSABits)
	}
	return out, nil
}

// parseKey reads a public key for signatures.
func parseKey(raw json.RawMessage) (k key, ok bool) {
	// Without options there is no private key, no symmetric one, and no request to an x5u.
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, false
	}
	m := jwk.Marshal()
	if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, false
	}
	k = key{id: m.KID, public: jwk.Key()}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return key{}, false
		}
		k.algorithms = publicAlgorithms[:6]
	case *ecdsa.PublicKey:
		switch public.Curve.Params().BitSize {
		case 256:
			k.algorithms = []string{"ES256"}
		case 384:
			k.algorithms = []string{"ES384"}
		case 521:
			k.algorithms = []string{"ES512"}
		}
	case ed25519.PublicKey:
		k.algorithms = []string{"EdDSA"}
	}
	if a := string(m.ALG); a != "" {
		if !slices.Contains(k.algorithms, a) {
			return key{}, false
		}
		k.algorithms = []string{a}
	}
	return k, len(k.algorithms) > 0
}

// candidates returns the keys for a token with an algorithm and a key ID, which may be empty. known
// reports whether a key has that ID.
func (s *keySet) candidates(algorithm, id string) (keys []any, known bool) {
	for i := range s.keys {
		k := &s.keys[i]
		if id != "" && k.id != id {
			continue
		}
		known = true
		if slices.Contains(k.algorithms, algorithm) && len(keys) < maxTried {
			keys = append(keys, k.public)
		}
	}
	return keys, known
}
