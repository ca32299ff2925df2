package config

import (
	"fmt"
	"net"
	"strconv"
)

// AdminListenAddr returns the address of the admin port as host:port, with the port 0 for FreePort.
func (c Config) AdminListenAddr() string {
	c = c.WithDefaults()
	return net.JoinHostPort(c.AdminAddr, strconv.Itoa(max(c.AdminPort, 0)))
}

// checkAdmin holds the rules about more than one setting of the admin port. c has its defaults.
func (c Config) checkAdmin() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (c.AdminTLSCert == "") != (c.AdminTLSKey == "") {
		fail("adminTlsCert and adminTlsKey belong together: set both or none")
	}
	if c.AdminClientCA != "" && c.AdminTLSCert == "" {
		fail("adminClientCa needs TLS: set adminTlsCert and adminTlsKey, too")
	}
	if c.AdminPort == 0 {
		return errs
	}
	if c.AdminPort > 0 && c.AdminPort == c.Port {
		fail("adminPort and port are both %d: choose two different ports", c.Port)
	}
	if c.AdminPort > 0 && c.AdminPort == c.MetricsPort {
		fail("adminPort and metricsPort are both %d: choose two different ports", c.MetricsPort)
	}
	if c.AdminTokenFile == "" && c.AdminClientCA == "" && !loopback(c.AdminListenAddr()) {
		fail("adminAddr %s can be reached from other machines: set adminTokenFile, or adminTlsCert, adminTlsKey and adminClientCa, or leave adminAddr at 127.0.0.1", c.AdminAddr)
	}
	return errs
}
