package restest

import "sluice/internal/transcript"

// language lists the verbs of the gateway's runner; see the package comment.
var language = &transcript.Language{
	Actors: []string{"client", "http"},
	Blocks: []string{"any", "repeat"},
	Verbs:  []string{"quiet", "advance", "logs", "waits", "subscribed", "unsubscribed", "differ"},
	Keep: []string{"http", "client subscribes", "client upgrades", "client early", "client leaves", "client accepted",
		"client refused"},
}

// Load reads and parses a transcript file.
func Load(file string) (*transcript.Script, error) { return language.Load(file) }

// Parse parses a transcript; file is for messages only.
func Parse(file, text string) (*transcript.Script, error) { return language.Parse(file, text) }
