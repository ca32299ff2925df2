package gateway

import (
	"net/http"
	"time"

	"sluice/internal/config"
	"sluice/internal/httpedge"
	"sluice/internal/secret"
)

// Config is the configuration of a gateway. It is plain data: its zero value is complete, and the
// zero value of each field means its default.
type Config = config.Config

// NATSURL is the address of a NATS server, or several separated by commas. When printed, it shows
// no user name, password or token; its method Reveal does.
type NATSURL = secret.URLs

const (
	// AllAddresses as Config.Addr listens on every address, IPv4 and IPv6.
	AllAddresses = config.AllAddresses
	// FreePort as Config.Port lets the system choose a free port; Gateway.Addr returns it.
	FreePort = config.FreePort
	// Off disables a duration whose zero value means the default.
	Off time.Duration = config.Off
	// Protocol is the newest RES protocol version that the gateway speaks.
	Protocol = config.Protocol
	// DefaultNATSURL is Config.NATSURL's default.
	DefaultNATSURL = config.DefaultNATSURL
	// LevelTrace is the log level of single messages, below debug.
	LevelTrace = config.LevelTrace
)

// NotFound responds as the gateway does to an unknown path: 404 with a system.notFound error. It is
// for handlers of Config.Pages.
func NotFound(w http.ResponseWriter, r *http.Request) { httpedge.NotFound(w, r) }
