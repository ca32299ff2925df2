// Package jwtauth owns authentication at the edge by JSON Web Tokens (RFC 7519): where a request
// carries one, which keys verify it, and what its claims give the connection: the token that
// services see (RES.md section 3.2), a token ID, and the time when it ends.
//
// Signatures are verified on workers, since one takes up to a millisecond. The event loops pass
// tokens to them through a mailbox, and take no lock.
//
// golang-jwt parses and verifies. This package binds each key to the algorithms that it is for, so
// that a public key never serves as the secret of an HMAC. jwkset parses the keys of a JWKS. Its
// client is not used: it bounds neither the body nor the redirects, and has a clock of its own.
//
// It never knows a session or a connection, and never logs a token or a part of one.
package jwtauth
