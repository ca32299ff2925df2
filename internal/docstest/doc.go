// Package docstest tests the documentation: it runs the commands and programs of the pages below
// docs, and checks the links of all pages.
//
// A fenced block says by the words after its language how it is tested:
//
//	```sh run                        the commands run, one after the other, and must succeed
//	```sh background until=TEXT      the command runs until the end of the session, or until another
//	                                 one with the same name (background=NAME) replaces it; the test
//	                                 goes on when it has printed TEXT, a gateway when it listens
//	```go file=PATH                  the block becomes that file in the session's folder
//	```yaml settings                 the block is a configuration file that "sluice check" accepts
//	```text nats                     the block configures a NATS server, which runs until the end
//	```sh show="REASON"              the block is not tested: it needs root, another machine …
//
// A block with for=LANG belongs to the session in that language: the chapters on services are run
// once in each.
//
// Comment lines that directly follow a command are its output; in them "…" stands for any text, and
// a line of "…" alone for any lines. A block of JSON must be valid. A line
//
//	<!-- sh WORDS: COMMAND -->
//
// is a block that readers do not see. Every block of a page says how it is tested, and those that
// run are on a page of the table of guides.
//
// On a page, ../sluice/ is this tree. Pages say the default ports, 8080 and 4222. The tests run on
// free ports of the loopback interface and replace these numbers, as those of the metrics port,
// 9100, and the admin port, 8090. What "make demo" and "make build" make is there already.
package docstest
