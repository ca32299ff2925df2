package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/gateway"
	"sluice/internal/config"
)

// healthTimeout bounds a health check, so that it ends before the usual timeouts of those who ask.
const healthTimeout = 4 * time.Second

// health does "sluice health": it asks the gateway that the same arguments and environment start,
// on this machine, for /healthz; with hideHealth, on the metrics port. It prints the response, and
// exits with 0 if the gateway is healthy, with 1 if it is not or does not answer, and with 2 if the
// settings are wrong. Images without a shell need it for their health checks.
func (p *process) health(args []string) int {
	setup, err := config.Reload(args, p.environ)
	switch {
	case setup.Help || setup.Version:
		return p.inform(setup)
	case err != nil:
		return p.misused(err)
	case setup.Config.HideHealth && setup.Config.MetricsPort == 0:
		return p.misused(errors.New("hideHealth is set, but no metricsPort: nothing answers health checks"))
	case setup.Config.HideHealth && setup.Config.MetricsPort == config.FreePort:
		return p.misused(fmt.Errorf("metricsPort is %d, any free one: name the port to ask the gateway there", config.FreePort))
	case !setup.Config.HideHealth && setup.Config.WithDefaults().Port == config.FreePort:
		return p.misused(fmt.Errorf("port is %d, any free one: name the port to ask the gateway there", config.FreePort))
	}
	status, text, err := healthOf(setup.Config.WithDefaults())
	if err != nil {
		fmt.Fprintf(p.stderr, "sluice: %v\n", err)
		return exitFailure
	}
	fmt.Fprintf(p.stdout, "%d %s\n", status, strings.TrimSpace(text))
	if status != http.StatusOK {
		return exitFailure
	}
	return exitOK
}

// healthOf asks the gateway with settings c.
func healthOf(c gateway.Config) (status int, text string, err error) {
	host, scheme := c.Addr, "http"
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	port := c.Port
	switch {
	case c.HideHealth:
		port = c.MetricsPort
	case c.TLS:
		scheme = "https"
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(port))+"/healthz", nil)
	if err != nil {
		return 0, "", err
	}
	// The certificate is that of a public name, not of this address. Nothing secret is sent.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode, string(body), err
}
