// Package resmodel models the two peers of a gateway, for whatever compares a gateway's output with
// what it should be: View is a strict client library, Store the state of a service.
//
// It owns no connection, goroutine or clock. It never sends anything itself, and the gateway never
// contains it.
package resmodel
