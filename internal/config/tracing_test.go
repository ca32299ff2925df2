package config

import (
	"slices"
	"strings"
	"testing"

	"sluice/internal/tracing"
)

// The standard variables of OpenTelemetry, alone and beside our own settings.
func TestOTelVariables(t *testing.T) {
	for name, c := range map[string]struct {
		args, env []string
		want      tracing.Options
		warning   string
	}{
		"none":       {want: tracing.Options{Ratio: 1, Service: "sluice"}},
		"our own":    {args: []string{"--otlp-endpoint", "http://c:4318", "--trace-ratio", "0.5", "--trace-attribute", "a=b=c"}, want: tracing.Options{Endpoint: "http://c:4318/v1/traces", Ratio: 0.5, Service: "sluice", Attributes: [][2]string{{"a", "b=c"}}}},
		"with paths": {args: []string{"--otlp-endpoint", "https://c/otlp"}, want: tracing.Options{Endpoint: "https://c/otlp", Ratio: 1, Service: "sluice"}},
		"all": {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/x/", "OTEL_EXPORTER_OTLP_HEADERS=k=v", "OTEL_SERVICE_NAME=edge",
			"OTEL_RESOURCE_ATTRIBUTES=service.name=other,a=b%2Cc", "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25"},
			want: tracing.Options{Endpoint: "http://c:4318/x/v1/traces", Headers: "k=v", Ratio: 0.25, Service: "edge", Attributes: [][2]string{{"a", "b,c"}}}},
		"of traces": {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://d/spans", "OTEL_TRACES_SAMPLER=always_off", "OTEL_RESOURCE_ATTRIBUTES=service.name=other"},
			want: tracing.Options{Endpoint: "http://d/spans", Ratio: 0, Service: "other"}},
		"our own win": {args: []string{"--otlp-endpoint", "http://c:4318"}, env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://d:4318", "SLUICE_TRACE_SERVICE=one", "OTEL_SERVICE_NAME=two"},
			want: tracing.Options{Endpoint: "http://c:4318/v1/traces", Ratio: 1, Service: "one"}},
		"disabled":    {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://d:4318", "OTEL_SDK_DISABLED=true"}, want: tracing.Options{Ratio: 1, Service: "sluice"}},
		"no exporter": {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://d:4318", "OTEL_TRACES_EXPORTER=none"}, want: tracing.Options{Ratio: 1, Service: "sluice"}},
		"grpc":        {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://d:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, want: tracing.Options{Ratio: 1, Service: "sluice"}, warning: "OTEL_EXPORTER_OTLP_PROTOCOL is grpc"},
		"a mistake":   {env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=user:secret@d", "OTEL_EXPORTER_OTLP_HEADERS=secret"}, want: tracing.Options{Ratio: 1, Service: "sluice"}, warning: "OTEL_EXPORTER_OTLP_ENDPOINT is ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(c.args, c.env)
			if err != nil {
				t.Fatal(err)
			}
			full := s.Config.WithDefaults()
			got := full.Tracing()
			got.Version = ""
			if got.Endpoint != c.want.Endpoint || got.Headers.Reveal() != c.want.Headers.Reveal() || got.Ratio != c.want.Ratio || got.Service != c.want.Service || !slices.Equal(got.Attributes, c.want.Attributes) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			all := strings.Join(s.Warnings, "\n")
			if c.warning == "" && all != "" || !strings.Contains(all, c.warning) || strings.Contains(all, "secret") {
				t.Errorf("warnings %q, want one with %q", all, c.warning)
			}
		})
	}
}

func TestTraceMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"--otlp-endpoint collector:4318": "write it like http://collector.example.com:4318",
		"--trace-ratio 1.5":              "not a number from 0 to 1",
		"--trace-ratio NaN":              "not a number from 0 to 1",
		"--trace-attribute production":   "write it like deployment.environment.name=production",
	} {
		if _, err := Load(strings.Fields(args), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
	if _, err := Load(nil, []string{"SLUICE_OTLP_HEADERS=secret"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("headers: error %v", err)
	}
}
