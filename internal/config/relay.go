package config

import (
	"bytes"
	"slices"
)

// relayToo are the settings of a gateway that a relay has, too. All other settings outside of
// groupRelay are about clients, or about what only a gateway does.
var relayToo = []string{
	"natsUrl", "natsCreds", "natsNkey", "natsCert", "natsKey", "natsRootCAs", "natsTimeout", "natsGrace", "natsPing", "natsClusterPing",
	"requestTimeout", "queueTimeout", "resetThrottle", "maxServiceRequests", "minServiceRequests", "serviceNameParts",
	"cacheBytes", "maxResourceBytes", "memoryLimit", "metricsPort", "addr", "profiles", "debug", "trace", "logFormat",
}

// concerns reports whether a setting means something to a relay, or else to a gateway.
func (s *setting) concerns(relay bool) bool {
	if s.group == groupRelay {
		return relay
	}
	return !relay || slices.Contains(relayToo, s.key)
}

// Unused returns a warning for each setting that has been given a value other than the default, and
// that the program does not read: as a relay (Setup.Relay) or as a gateway.
func (s *Setup) Unused() (warnings []string) {
	var standard Config
	standard, c := standard.WithDefaults(), s.Config.WithDefaults()
	for i := range settings {
		row := &settings[i]
		source := s.sources[row]
		if source == "" || row.concerns(s.Relay) || bytes.Equal(jsonOf(row.toJSON(&c)), jsonOf(row.toJSON(&standard))) {
			continue
		}
		if s.Relay {
			warnings = append(warnings, row.key+" (from "+source+") means nothing to a relay: remove it; docs/relay.md lists a relay's settings")
		} else {
			warnings = append(warnings, row.key+" (from "+source+") is for sluice relay and means nothing to a gateway: remove it, or check a relay's settings with sluice check relay")
		}
	}
	return warnings
}
