// Package upstream connects cache shards and the sessions of event loops to services: it sends
// their requests through the NATS caller of the owner that makes them, names the client that each
// is for, and translates the errors.
//
// A value belongs to the owner that it is made for. It never looks into a request or a reply, and
// keeps no state of a resource or a client but the group of a client's requests in flight.
package upstream
