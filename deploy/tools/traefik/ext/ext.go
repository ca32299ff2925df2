// Package ext stands for the extension points of Traefik's configuration. It never adds a field.
package ext

// HTTP has no further fields.
type HTTP struct{}

// Router has no further fields.
type Router struct{}
