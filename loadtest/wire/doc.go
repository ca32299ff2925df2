// Package wire has the connections that faults are made of: a client's WebSocket whose reader can
// stop, byte sequences that break RFC 6455, and a TCP relay that can be cut.
//
// It owns the sockets that it opens. It knows no gateway and judges nothing.
package wire
