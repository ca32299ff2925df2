package config

import (
	"fmt"
	"regexp"
	"strings"
)

// envPrefix begins the names of our environment variables.
const envPrefix = "SLUICE_"

// envConfig names the configuration file, as -c does.
const envConfig = envPrefix + "CONFIG"

// environment is what the environment says to us.
type environment struct {
	values  map[string]string // of settings, by the variable's name
	unknown []string          // names that begin like ours
	links   []string          // names of service links
}

// readEnviron picks the variables that are ours.
func readEnviron(environ []string) environment {
	known := map[string]bool{envConfig: true}
	for i := range settings {
		known[settings[i].env()] = true
	}
	env := environment{values: map[string]string{}}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case !strings.HasPrefix(name, envPrefix):
		case serviceLink(name, value):
			env.links = append(env.links, name)
		case known[name]:
			env.values[name] = value
		default:
			env.unknown = append(env.unknown, name)
		}
	}
	return env
}

// Kubernetes and Docker describe each service of a namespace to all its
// containers by a set of variables that begin with the service's name. So the
// variables of a service called sluice, or sluice-metrics, look like settings.
var (
	linkName  = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	linkValue = regexp.MustCompile(`^(tcp|udp|sctp)://.+:\d+$`)
)

// serviceLink reports whether a variable describes a service. The value decides
// where the name could be a setting's.
func serviceLink(name, value string) bool {
	return linkName.MatchString(name) || strings.HasSuffix(name, "_PORT") && linkValue.MatchString(value)
}

// names lists names for a message. What does not look like a name is only counted: it may be a
// value that slipped there.
func names(all []string) string {
	var shown []string
	for _, n := range all {
		if len(shown) < maxListed && plain(n) {
			shown = append(shown, n)
		}
	}
	if hidden := len(all) - len(shown); hidden > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", hidden))
	}
	return strings.Join(shown, ", ")
}

// plain reports whether a text looks like a name and not like a value that should not be shown.
func plain(name string) bool { return plainName.MatchString(name) && !looksSecret(name) }

var plainName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
