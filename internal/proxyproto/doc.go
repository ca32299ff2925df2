// Package proxyproto reads the header with which a proxy in front of the
// gateway tells whose connection it passes on: the PROXY protocol of HAProxy,
// versions 1 (a line of text) and 2 (binary).
//
// It is pure functions on byte slices. It owns nothing, does no I/O, and never
// decides whom to believe: whoever can send this header can claim any address,
// so the caller must look for it on connections of trusted networks only, whose
// proxies send it with every connection that they pass on.
package proxyproto
