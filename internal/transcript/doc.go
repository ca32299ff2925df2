// Package transcript parses the test scripts that replay, line by line, what an owner or a whole
// gateway receives and what it must then do. It owns the form of a script: lines, comments,
// continuations and blocks. It never runs one: a runner gives each verb its meaning
// (internal/restest for a gateway, the tests of cache for a shard), and never decides what a test
// expects.
//
// # The form
//
// A script is a text file. A blank line separates paragraphs. A line that starts with # is a
// comment; an indented line continues the line before it. The first word is the verb, except:
//
//	client a < MESSAGE     actors of one kind have names: the verb is "client <", the actor a
//	service > EVENT        the service is alone: the verb is "service >"
//	set KEY VALUE          a setting; only before the first step
//	any, repeat N, together ... end
//	                       a block; blocks nest
//	each NAME ... do ... end
//	                       a block run once for each indented line between each and do
//
// The arrow < means that the test receives and compares, > that it sends. These verbs mean the same
// to every runner: "advance DURATION" moves the owner's clock, "service < SUBJECT PAYLOAD" is a
// request that the service receives, "service > reply SUBJECT PAYLOAD" its reply, "service >
// SUBJECT PAYLOAD" a message that it publishes, "subscribed" and "unsubscribed SUBJECT" are
// subscriptions on NATS, and "logs N TEXT" are N log records that contain TEXT.
package transcript
