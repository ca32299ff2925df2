// Package proxyproto parses the PROXY protocol header with which a proxy in front of the gateway
// states the client's address: version 1 (a text line) and version 2 (binary), as specified by
// HAProxy.
//
// It is pure functions on byte slices: a header is parsed in place in an event loop's read buffer,
// as far as it has arrived. Libraries for the protocol wrap a net.Conn and block in Read, which a
// loop must not. The package owns nothing, does no I/O, and never decides whom to trust: any client
// can send this header and claim any address. The caller parses it on connections from trusted
// networks only, whose proxies send it with every connection.
package proxyproto
