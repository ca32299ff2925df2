package config

import (
	"cmp"

	"sluice/internal/presence"
)

// Presence returns the settings of connection events. instance is unique to the process; it is the
// gateway's ID, too, unless there is a setting. c has its defaults.
func (c *Config) Presence(instance string) presence.Options {
	return presence.Options{
		GID:       cmp.Or(c.GatewayID, instance),
		Instance:  instance,
		Version:   cmp.Or(c.Version, "devel"),
		Interval:  c.GatewayHeartbeat,
		TakesOver: c.TakesOver,
	}
}
