// Package service is the load harness's side behind the server: it publishes the
// events that clients receive, and answers the requests that they make.
//
// It owns one connection, to NATS or to a feed port. It does not decide when to
// publish, which package run does, and never measures.
package service
