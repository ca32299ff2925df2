// Package restest proves the gateway's behaviour from outside: transcripts that are read and replayed line
// by line, and a chaos test that folds what clients receive as a client library would.
//
// It owns the verbs of a gateway (language.go; package transcript has the form of a script), their runner (run.go, http_steps.go, quiet.go), a WebSocket
// client, an HTTP client (http.go) and a scripted service that only do what they are told, the model of a strict client (view.go) and a model
// store that answers as a service does (store.go). It is for tests only: nothing in the product imports it,
// and it never looks inside the gateway, never sleeps to let something happen, and never takes silence for
// proof: that nothing was sent is shown by a round trip through the same owners (see quiet.go).
//
// # The language
//
// A transcript is a text file. A line that begins with # is a comment; an indented line continues the line
// before it. $name stands for a variable: $cid.a is the connection ID of client a, $long a run of 5,000
// letters, $blank white space, $n the pass of the innermost loop.
//
//	set KEY VALUE                   a setting of the gateway; only before the first step
//	client a connects [VERSION]     opens a connection and states the version; "raw" states none
//	client a > MESSAGE              sends a text frame ("client a >binary MESSAGE" a binary one)
//	client a < PATTERN              the next message that a receives must match
//	client a disconnects            cuts the connection without a word
//	client a closes CODE            the closing handshake, begun by the client
//	client a closed CODE            the gateway must close with that code
//	client a subscribes RID VALUE   the usual exchange, see below
//	client a turns RID FROM into TO by N
//	                                the next N messages are events that make TO of FROM
//	client a drains                 takes whatever was sent, where the protocol leaves the form open
//	client a holds RID VALUE        what a client has made of it all; "nothing": it does not hold it
//	client a upgrades [PATH] [on http NAME]
//	                                asks for WebSocket, on a connection that has carried requests or a new one,
//	                                and does not wait; see "HTTP" for the indented lines
//	client a accepted [VERSION]     the upgrade must be granted; states the version, unless "raw"
//	client a early MESSAGE          sends a text frame before the upgrade is answered
//	client a leaves                 cuts the connection before the upgrade is answered
//	client a refused STATUS [BODY]  the upgrade must be answered so
//	http a > METHOD TARGET [BODY]   sends a request
//	http a < STATUS [BODY]          the next answer that a receives
//	http a <event PATTERN           the next message of a's stream; "<comment" is a comment
//	http a holds RID VALUE          what a has made of its stream
//	http a closed                   the gateway must close the connection
//	http a disconnects              cuts the connection
//	service < SUBJECT [PATTERN] [as NAME]
//	                                a request with that subject must have come or come; $cid.NAME is the
//	                                connection ID that it carries
//	service > reply SUBJECT PAYLOAD answers the oldest open request with that subject, or NAME
//	service answers PREFIX PAYLOAD  takes and answers one request, whichever came first of those whose
//	                                subject begins so; "all PREFIX": as they come, until a client receives
//	service > SUBJECT [PAYLOAD]     publishes
//	service deaf SUBJECT            stops listening ("no responders"); "service listens SUBJECT" ends it
//	subscribed SUBJECT              NATS must have (or get) a subscription on exactly that subject; with "now"
//	                                before the subject it must have it
//	unsubscribed SUBJECT            NATS must have lost (or lose) it
//	advance DURATION                moves the gateway's clock
//	quiet                           proves that no client and not the service received anything more
//	quiet auth                      the same without the get that a query event would hold back
//	waits N PREFIX                  exactly N requests, with subjects that begin so, wait to be taken
//	logs N TEXT                     N log records contain TEXT
//	any ... end                     the client lines inside match in any order
//	repeat N ... end                the body N times
//	each NAME ... do ... end        the body once for each line between each and do; of several names the last
//	                                takes the rest of the line, the others a word each
//	differ WORD WORD ...            no two words are the same
//
// Requests need no order among each other (different owners send them), messages to one client do. Whatever
// was not expected makes the transcript fail, at the latest at its end, where a quiet is implied.
//
// A PATTERN is JSON compared by structure, numbers by their text. "$any" matches anything, and {...} or
// {"a":1,...} allows more members.
//
// # HTTP
//
// An HTTP client's name stands for a connection: its requests go over one as long as that is open, and may be
// sent before the answers of earlier ones are there. Nothing about a request is checked or repaired: what is
// written is sent. Indented lines are header fields, "Name: value"; others continue the body. Of an answer, the
// fields written must be there with these values, in any order, "$any" being any value; "no Name" says that a
// field must be absent; others may be there. An answer without BODY must have none. BODY is a PATTERN, or
// "raw TEXT" for exact bytes, or "stream" for server-sent events, whose messages follow. A body that was
// compressed is compared as it was before.
//
// Everything a client takes is folded by a strict View as well, so that each transcript also checks that a
// client library could follow.
//
// "client a subscribes RID VALUE" stands for the subscribe request, the access and get requests with their
// answers and the result. Indented lines "RID VALUE" name the references that are loaded with it. Before a
// RID, "cached" means that the gateway needs no get for it, "held" that the client has it already, so that
// it is not in the result either.
package restest
