// Package differential holds the same conversations with two gateways, and compares what they do.
//
// A conversation is a list of steps from a seed: requests of WebSocket clients, HTTP requests, and
// what a service does. Each gateway has a NATS server and a service of its own, which are in the
// same state after the same steps. After each step both sides settle; then what the clients
// received is compared, after normalising what may differ: the order of keys, of resources, and of
// messages that no rule orders. Differences that are meant stand in a table with their reasons
// (allowed.go).
//
// The first step with a difference ends a conversation. It is then repeated without steps that the
// difference does not need.
package differential
