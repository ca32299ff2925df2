// Package judge decides which figures of a load test are the server's own. It
// rejects those that the machine or the harness has spoiled, calls those bounds
// that the clients limited, chooses the rates of the search for the highest one,
// and takes medians over rounds.
//
// It owns the limits and the rules. It takes no measurement, never looks at a
// clock, and depends on nothing but a plan's scenario and a result's cells, so
// that each rule is tested without a server.
package judge
