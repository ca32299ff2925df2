//go:build invariants

package gateway

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const bombEnv = "SLUICE_TEST_BOMB"

// With assertions compiled in, a panic ends the process, so that tests see it.
func TestPanicsAreNotContained(t *testing.T) {
	if owner := os.Getenv(bombEnv); owner != "" {
		g := startLive(t, func(c *Config) { c.Loops, c.Shards = 1, 1 })
		bomb := func() { panic("bomb: " + owner) }
		switch owner {
		case "loop":
			g.firstLoop().Post(bomb)
		case "shard":
			g.owners.Shards()[0].Cache.Run(bomb)
		}
		select {}
	}
	for _, owner := range []string{"loop", "shard"} {
		process := exec.Command(os.Args[0], "-test.run=^TestPanicsAreNotContained$")
		process.Env = append(os.Environ(), bombEnv+"="+owner)
		out, err := process.CombinedOutput()
		if _, ok := err.(*exec.ExitError); !ok || !strings.Contains(string(out), "panic: bomb: "+owner) {
			t.Errorf("%s: %v\n%s", owner, err, out)
		}
	}
}
