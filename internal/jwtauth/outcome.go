package jwtauth

import (
	"net/http"

	"sluice/internal/res"
)

// Outcome is what became of a client's token.
type Outcome uint8

const (
	Valid       Outcome = iota // the client is admitted, perhaps as anonymous
	Missing                    // there is no token
	Malformed                  // it is no JSON Web Token, or too long
	Algorithm                  // the algorithm is not permitted, or not one of the key
	Signature                  // the signature is not valid
	UnknownKey                 // no key has the token's key ID
	Expired                    // exp has passed
	NotYetValid                // nbf has not passed
	Issuer                     // iss is not that of the settings
	Audience                   // aud has none of the settings
	Unavailable                // the keys have not been fetched yet
	Busy                       // too many tokens wait for their verification
	Failed                     // the verification has panicked
	Outcomes                   // how many there are
)

var outcomes = [Outcomes]struct{ name, description string }{
	Valid:       {"valid", ""},
	Missing:     {"missing", "a token is required"},
	Malformed:   {"malformed", "the token is malformed"},
	Algorithm:   {"algorithm", "the token's algorithm is not permitted"},
	Signature:   {"signature", "the token's signature is not valid"},
	UnknownKey:  {"unknown_key", "the token's key is unknown"},
	Expired:     {"expired", "the token has expired"},
	NotYetValid: {"not_yet_valid", "the token is not valid yet"},
	Issuer:      {"issuer", "the token is of another issuer"},
	Audience:    {"audience", "the token is for another audience"},
	Unavailable: {"unavailable", "tokens cannot be verified at present"},
	Busy:        {"busy", "too many tokens are being verified"},
	Failed:      {"failed", ""},
}

// String returns the outcome as metrics and the log name it.
func (o Outcome) String() string { return outcomes[o].name }

// fault reports whether the outcome is the token's fault, not the gateway's.
func (o Outcome) fault() bool { return o >= Malformed && o <= Audience }

// Err returns the error for the client; nil if it is admitted.
func (o Outcome) Err() *res.Error {
	switch o {
	case Valid:
		return nil
	case Unavailable, Busy:
		return &res.Error{Code: res.CodeServiceUnavailable, Message: res.ErrServiceUnavailable.Message + ": " + outcomes[o].description}
	case Failed:
		return res.InternalError("")
	}
	return &res.Error{Code: res.CodeAccessDenied, Message: res.ErrAccessDenied.Message + ": " + outcomes[o].description}
}

// Meta returns the status and header of an HTTP response with Err, in the form of a service's reply
// to header authentication; nil if the client is admitted. 401 comes with a challenge (RFC 6750
// section 3).
func (o Outcome) Meta() *res.Meta {
	switch o {
	case Valid:
		return nil
	case Missing:
		return &res.Meta{Status: http.StatusUnauthorized, Header: map[string][]string{"Www-Authenticate": {challenge}}}
	case Unavailable, Busy:
		return &res.Meta{Status: http.StatusServiceUnavailable, Header: map[string][]string{"Retry-After": {"1"}}}
	case Failed:
		return &res.Meta{Status: http.StatusInternalServerError}
	}
	return &res.Meta{Status: http.StatusUnauthorized, Header: map[string][]string{
		"Www-Authenticate": {challenge + `, error="invalid_token", error_description="` + outcomes[o].description + `"`},
	}}
}

const challenge = `Bearer realm="sluice"`
