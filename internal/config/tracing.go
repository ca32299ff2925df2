package config

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/internal/tracing"
)

// Tracing returns the settings of traces. c has its defaults.
func (c *Config) Tracing() tracing.Options {
	o := tracing.Options{Endpoint: tracing.TracesURL(c.OTLPEndpoint), Headers: c.OTLPHeaders, Service: c.TraceService, Version: c.Version}
	o.Ratio, _ = strconv.ParseFloat(c.TraceRatio, 64) // checked
	for _, a := range c.TraceAttributes {
		name, value, _ := strings.Cut(a, "=")
		o.Attributes = append(o.Attributes, [2]string{name, value})
	}
	return o
}

func checkRatio(s string) error {
	if v, err := strconv.ParseFloat(s, 64); err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("%s is not a number from 0 to 1: write it like 0.01 for every hundredth trace", show(s))
	}
	return nil
}

func checkAttribute(s string) error {
	if name, _, ok := strings.Cut(s, "="); !ok || name == "" {
		return fmt.Errorf("%s is not an attribute: write it like deployment.environment.name=production", show(s))
	}
	return nil
}

// fromOTel applies the standard variables of OpenTelemetry
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). They are
// often set for all programs of a machine: so everything of our own wins, and a mistake in them
// does not keep a gateway from starting.
func (r *reader) fromOTel(environ []string) {
	env := make(map[string]string)
	for _, e := range environ {
		if name, value, _ := strings.Cut(e, "="); strings.HasPrefix(name, "OTEL_") {
			env[name] = strings.TrimSpace(value)
		}
	}
	if len(env) == 0 || strings.EqualFold(env["OTEL_SDK_DISABLED"], "true") || env["OTEL_TRACES_EXPORTER"] == "none" {
		return
	}
	set := func(key, name string, texts ...string) {
		s, _ := settingByKey(key)
		var probe Config
		if err := errors.Join(s.set(&probe, texts), s.check(&probe)); err != nil {
			r.warn("%s is ignored: %v", name, err)
			return
		}
		s.copy(&r.Config, &probe)
		r.sources[s] = name
	}
	// first returns the variable for traces, or that for all signals.
	first := func(what string) (name, value string) {
		name = "OTEL_EXPORTER_OTLP_TRACES_" + what
		if env[name] == "" {
			name = "OTEL_EXPORTER_OTLP_" + what
		}
		return name, env[name]
	}
	name, endpoint := first("ENDPOINT")
	protocolName, protocol := first("PROTOCOL")
	switch {
	case endpoint == "":
	case protocol == "grpc":
		r.warn("%s is ignored, since %s is grpc: set it to http/protobuf, or set otlpEndpoint", name, protocolName)
	default:
		if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
			endpoint = strings.TrimSuffix(endpoint, "/") + "/v1/traces"
		}
		set("otlpEndpoint", name, endpoint)
	}
	if name, headers := first("HEADERS"); headers != "" {
		set("otlpHeaders", name, headers)
	}
	var attributes []string
	service := env["OTEL_SERVICE_NAME"]
	pairs, err := tracing.Pairs(env["OTEL_RESOURCE_ATTRIBUTES"])
	if err != nil {
		r.warn("OTEL_RESOURCE_ATTRIBUTES is ignored: %v", err)
	}
	for _, p := range pairs {
		if p[0] == "service.name" {
			service = cmp.Or(service, p[1])
		} else {
			attributes = append(attributes, p[0]+"="+p[1])
		}
	}
	if len(attributes) > 0 {
		set("traceAttributes", "OTEL_RESOURCE_ATTRIBUTES", attributes...)
	}
	if service != "" {
		set("traceService", "OTEL_SERVICE_NAME", service)
	}
	switch env["OTEL_TRACES_SAMPLER"] {
	case "always_off", "parentbased_always_off":
		set("traceRatio", "OTEL_TRACES_SAMPLER", "0")
	case "traceidratio", "parentbased_traceidratio":
		if ratio := env["OTEL_TRACES_SAMPLER_ARG"]; ratio != "" {
			set("traceRatio", "OTEL_TRACES_SAMPLER_ARG", ratio)
		}
	}
}
