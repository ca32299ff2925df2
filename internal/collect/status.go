package collect

import (
	"cmp"
	"time"

	"sluice/internal/memory"
	"sluice/internal/metrics"
	"sluice/internal/reload"
)

// Status is the state of the gateway as a whole. The functions may be called from any goroutine at
// any time.
type Status struct {
	Ready       func() error     // nil if new clients are served in full
	Connected   func() bool      // reports whether all connections to NATS are up
	CertExpiry  func() time.Time // of the certificate that expires first; nil: no TLS
	Reloads     *reload.Metrics
	MemoryLimit int64                 // bytes; 0: none
	Memory      func() memory.Reading // what is in use
}

// status registers the state of the gateway as a whole.
func status(to *metrics.Registry, from *Status) error {
	if from == nil {
		return nil
	}
	gauge := func(name, help string, read func() int64) error {
		return named(name, func(name string) error { return to.Gauge(name, help, nil, read) })
	}
	reloads := func(result string, read func() uint64) error {
		return named("sluice_reloads_total", func(name string) error {
			return to.Counter(name, "Reloads of the settings, by result; a dry run is none.", metrics.Labels{"result": result}, read)
		})
	}
	err := cmp.Or(
		gauge("sluice_ready", "1 while new clients are served in full, as /readyz says.", func() int64 { return number(from.Ready() == nil) }),
		gauge("sluice_nats_connected", "1 while all connections to NATS are up.", func() int64 { return number(from.Connected()) }),
		gauge("sluice_memory_limit_bytes", "Memory that the gateway may use; 0: there is no limit.", func() int64 { return from.MemoryLimit }),
		gauge("sluice_memory_used_bytes", "Memory in use that no garbage collection would free, as of the last one.", func() int64 { return from.Memory().Used }),
		gauge("sluice_reload_success_timestamp_seconds", "Unix time of the latest successful reload of the settings; 0: there was none.", from.Reloads.Latest.Load),
		reloads("ok", from.Reloads.Done.Load),
		reloads("failed", from.Reloads.Failed.Load),
	)
	if from.CertExpiry == nil {
		return err
	}
	return cmp.Or(err, gauge("sluice_tls_certificate_expiry_timestamp_seconds", "Unix time at which the first of the certificates expires.",
		func() int64 { return from.CertExpiry().Unix() }))
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
