package gateway

import (
	"net/http"
	"time"

	"sluice/internal/config"
	"sluice/internal/httpedge"
	"sluice/internal/secret"
)

// Config is what a gateway is made of. It is plain data: its zero value is a
// complete configuration, and the zero value of each field means its default.
type Config = config.Config

// NATSURL is one address of a NATS server or several separated by commas. To
// print it shows no user name, password or token; its method Reveal does.
type NATSURL = secret.URLs

const (
	// AllAddresses as Config.Addr listens on every address, IPv4 and IPv6.
	AllAddresses = config.AllAddresses
	// FreePort as Config.Port lets the system choose a free port; Gateway.Addr
	// returns it.
	FreePort = config.FreePort
	// Off turns a duration off whose zero value means the default.
	Off time.Duration = config.Off
	// Protocol is the newest RES protocol version that the gateway speaks.
	Protocol = config.Protocol
	// DefaultNATSURL is Config.NATSURL's default.
	DefaultNATSURL = config.DefaultNATSURL
	// LevelTrace is the log level of single messages, below debug.
	LevelTrace = config.LevelTrace
)

// NotFound answers 404 with the body that the gateway gives for any unknown
// path; for Config.Pages handlers.
func NotFound(w http.ResponseWriter, r *http.Request) { httpedge.NotFound(w, r) }
