package config

import (
	"fmt"
	"strings"
)

// problem is a mistake in a source of settings that a start survives, as Resgate does: it is a
// warning there, and an error in strict mode.
type problem struct {
	at     place  // in the file; zero: elsewhere
	what   string // the mistake
	effect string // what a start does about it
	advice string // what the user can do
}

// warning returns the problem for a start that goes on.
func (p problem) warning() string { return p.what + p.effect + ": " + p.advice }

// err returns the problem for a strict reader.
func (p problem) err() error { return fmt.Errorf("%s: %s", p.what, p.advice) }

// nearestKey returns the key of a setting that name is probably meant for; empty if none is near.
// The name of a flag counts, too.
func nearestKey(name string) string {
	best := nearest{name: name}
	for i := range settings {
		s := &settings[i]
		best.offer(s.key, s.key)
		best.offer(s.flag, s.key)
		for _, a := range s.aliases {
			best.offer(a.key, a.key)
		}
	}
	return best.result
}

// nearestFlag returns the flag that name is probably meant for; empty if none is near.
func nearestFlag(name string) string {
	best := nearest{name: name}
	for i := range settings {
		best.offer(settings[i].flag, settings[i].flag)
		best.offer(settings[i].key, settings[i].flag)
	}
	for flag := range commonFlags {
		if len(flag) > 1 {
			best.offer(flag, flag)
		}
	}
	return best.result
}

// nearestCommand returns the command that name is probably meant for; empty if none is near.
func nearestCommand(name string) string {
	best := nearest{name: name}
	for i := range commands {
		best.offer(commands[i].name, commands[i].name)
	}
	return best.result
}

// nearestVariable returns the environment variable that name is probably meant for; empty if none
// is near.
func nearestVariable(name string) string {
	best := nearest{name: strings.TrimPrefix(name, envPrefix)}
	for i := range settings {
		s := &settings[i]
		best.offer(strings.TrimPrefix(s.env(), envPrefix), s.env())
		best.offer(s.flag, s.env())
	}
	best.offer(strings.TrimPrefix(envConfig, envPrefix), envConfig)
	return best.result
}

// nearest finds the candidate with the least distance to a name.
type nearest struct {
	name     string
	result   string
	distance int
}

// offer considers a candidate; result is what it stands for.
func (n *nearest) offer(candidate, result string) {
	if candidate == "" || result == "" {
		return
	}
	a, b := folded(n.name), folded(candidate)
	limit := 1 + min(len(a), len(b))/5 // a short name is near to many
	if limit == 1 && min(len(a), len(b)) < 3 {
		limit = 0
	}
	if d := distance(a, b); d <= limit && (n.result == "" || d < n.distance || d == n.distance && result < n.result) {
		n.result, n.distance = result, d
	}
}

// folded is a name without what differs between the ways to write it.
func folded(name string) string {
	return separators.Replace(strings.ToLower(name))
}

var separators = strings.NewReplacer("-", "", "_", "", ".", "")

// distance returns the number of letters to insert, delete, replace or exchange with a neighbour
// that turn a into b (optimal string alignment).
func distance(a, b string) int {
	const most = 64
	if len(a) > most || len(b) > most {
		return most
	}
	var rows [3][most + 1]int
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		now, last, before := &rows[i%3], &rows[(i+2)%3], &rows[(i+1)%3]
		now[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}
