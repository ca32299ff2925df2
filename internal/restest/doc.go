// Package restest tests the gateway's behaviour from outside: it replays transcripts line by line,
// and runs a chaos test whose clients fold what they receive as a client library does.
//
// It owns the verbs of a gateway (language.go) and their runner (run.go, exchange.go; sockets.go,
// http_steps.go and quiet.go have its parts);
// package transcript has the form of a script. It also owns scripted peers, which do only what a
// transcript says: a WebSocket client, an HTTP client and a service. Package resmodel has the
// models that they are compared with: a strict client library, and the state of a service.
//
// It is for tests only: no program imports it. It never looks inside the gateway, and it never
// sleeps. It never infers from a pause that nothing was sent: a round trip through the same owners
// proves it (quiet.go).
//
// # The verbs
//
// $name is a variable: $cid.a is the connection ID of client a, $long 5,000 letters, $blank white
// space, $n the iteration of the innermost loop.
//
//	set KEY VALUE                   a setting of the gateway; only before the first step
//	client a connects [VERSION]     opens a connection and sends the version; "raw" sends none
//	client a > MESSAGE              sends a text frame ("client a >binary MESSAGE" a binary one)
//	client a < PATTERN              the next message that a receives must match
//	client a disconnects            resets the connection without a closing handshake
//	client a closes CODE            the client starts the closing handshake
//	client a closed CODE            the gateway must close with that code
//	client a subscribes RID VALUE   the whole exchange of a subscription, see below
//	client a turns RID FROM into TO by N
//	                                the next N messages are events that change FROM to TO
//	client a drains                 receives all that was sent, if the protocol leaves the form open
//	client a holds RID VALUE        the state that the client has after its messages; "nothing"
//	                                means no state
//	client a upgrades [PATH] [on http NAME]
//	                                sends a WebSocket handshake, on a connection that has carried
//	                                requests or a new one, and does not wait; see "HTTP" for the
//	                                indented lines
//	client a accepted [VERSION]     the upgrade must succeed; sends the version, unless "raw"
//	client a early MESSAGE          sends a text frame before the response to the upgrade
//	client a leaves                 resets the connection before the response to the upgrade
//	client a refused STATUS [BODY]  the upgrade must be rejected with this response
//	http a > METHOD TARGET [BODY]   sends a request
//	http a < STATUS [BODY]          the next response that a receives
//	http a <event PATTERN           the next message of a's stream; "<comment" is a comment
//	http a holds RID VALUE          the state that a has after the messages of its stream
//	http a closed                   the gateway must close the connection
//	http a disconnects              resets the connection
//	service < SUBJECT [PATTERN] [as NAME]
//	                                the service gets a request with that subject, or has received
//	                                it; $cid.NAME is the connection ID in it
//	service > reply SUBJECT PAYLOAD replies to the oldest open request with that subject, or NAME
//	service answers PREFIX PAYLOAD  gets the oldest request whose subject begins with PREFIX, and
//	                                replies; "all PREFIX": all, until a client receives a message
//	service > SUBJECT [PAYLOAD]     publishes
//	service deaf SUBJECT            unsubscribes ("no responders"); "service listens
//	                                SUBJECT" subscribes again
//	subscribed SUBJECT              NATS must have, or get, a subscription on exactly that subject;
//	                                with "now" before the subject it must have it
//	unsubscribed SUBJECT            NATS must not have it, or lose it
//	advance DURATION                advances the gateway's clock
//	quiet                           proves that no client and no service received anything else
//	quiet auth                      the same without the get that a query event would defer
//	waits N PREFIX                  exactly N received requests with such subjects wait for a line
//	logs N TEXT                     N log records contain TEXT
//	any ... end                     the client lines inside match in any order
//	repeat N ... end                runs the lines inside N times
//	each NAME ... do ... end        runs the lines inside once for each line between each and do; of
//	                                several names the last has the rest of the line, others a word
//	differ WORD WORD ...            no two words are equal
//
// Different owners send requests to services, so their order is not checked. The order of messages
// to one client is. A message that no line expects fails the transcript, at the latest in the quiet
// that is implied at its end.
//
// A PATTERN is JSON compared by structure; numbers are compared as text. "$any" matches any value,
// and {...} or {"a":1,...} allows more members.
//
// # HTTP
//
// The name of an HTTP client denotes a connection. Its requests use the same connection while that
// is open, and may be pipelined. A request is sent as written, without checks or repairs. Indented
// lines are header fields, "Name: value"; other indented lines continue the body.
//
// A response must have the written fields with these values, in any order, and may have others.
// "$any" matches any value, and "no Name" requires a field to be absent. A response without BODY
// must have an empty body. BODY is a PATTERN, "raw TEXT" for exact bytes, or "stream" for
// server-sent events, whose messages follow. A compressed body is decoded before it is compared.
//
// A strict View folds all that a client receives, so each transcript also checks that a client
// library can follow.
//
// # Subscriptions
//
// "client a subscribes RID VALUE" is the subscribe request, the access and get requests with their
// replies, and the response. Indented lines "RID VALUE" are the references that the gateway loads
// with it. "cached" before a RID means that the gateway sends no get request for it. "held" means
// that the client has the resource already, so that the response does not have it.
package restest
