// Package tracing owns spans: what becomes of a client's request, and of each request to a service
// that it causes. Owners record spans as plain data; one goroutine sends them to a collector by
// OTLP over HTTP.
//
// It never delays an owner: a collector that is slow or away costs spans, which are counted. It
// knows no session and no subject, and never sees a token or the parameters of a request.
package tracing
