// Package judge decides which figures of a load test are the server's own. It
// rejects figures that the machine or the harness has disturbed, and marks those
// as bounds that the clients limited. It chooses the rates of the search for the
// highest one, and takes medians over rounds.
//
// It owns the limits and the rules. It takes no measurement and never reads a
// clock. Its input is a plan's scenario and a result's cells, so each rule is
// tested without a server.
package judge
