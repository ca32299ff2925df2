// Package client has the source of the npm package sluice-client, for programs that serve it to
// browsers. The package is the rest of this folder: "npm pack" makes it.
//
// It owns the text and nothing else, and never runs it.
package client

import _ "embed"

// Source is the module client.js, for all to read and none to change.
//
//go:embed client.js
var Source []byte
