package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// The header fields may have a credential, which is not for another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// export sends the batch, and repeats that while it may help (OTLP, "OTLP/HTTP Response"). It
// reports whether the collector has taken it.
func (t *Tracer) export() bool {
	body, err := t.encode(t.batch)
	for try := 0; err == nil; try++ {
		var wait time.Duration
		var again bool
		if wait, again, err = t.post(body); err == nil {
			t.note(nil)
			return true
		}
		t.note(err)
		if !again || try+1 == exportTries || !t.pause(max(wait, min(retryFirst<<try, retryMost))) {
			return false
		}
		err = nil
	}
	t.note(err)
	return false
}

// pause waits before another try. It reports false if the tracer is being stopped.
func (t *Tracer) pause(d time.Duration) bool {
	over := make(chan struct{})
	alarm := t.env.Clock.AfterFunc(d, func() { close(over) })
	defer alarm.Stop()
	select {
	case <-over:
		return true
	case <-t.stop:
		return false
	}
}

// post sends one request. If again is set, it may be repeated after wait, which is as the collector
// wants.
func (t *Tracer) post(body []byte) (wait time.Duration, again bool, err error) {
	ctx, cancel := context.WithCancelCause(t.stopped)
	defer cancel(nil)
	alarm := t.env.Clock.AfterFunc(exportTime, func() { cancel(fmt.Errorf("no response within %v", exportTime)) })
	defer alarm.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.o.Endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, false, errors.New("the endpoint is not a URL")
	}
	r.Header = t.header.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "OTel-OTLP-Exporter-Sluice/"+t.o.Version)
	resp, err := t.client.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return 0, true, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		s, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		wait, again = min(time.Duration(max(s, 0))*time.Second, retryMost), true
	}
	if resp.StatusCode/100 != 2 {
		return wait, again, fmt.Errorf("status %d", resp.StatusCode)
	}
	return 0, false, nil
}

// note logs failures, and the first success after them.
func (t *Tracer) note(err error) {
	switch now := t.env.Clock.Now(); {
	case err != nil && (!t.failed || now-t.shown >= logEvery):
		t.failed, t.shown = true, now
		t.env.Log.Warn("cannot send spans to the collector; see that it accepts OTLP over HTTP at otlpEndpoint", "error", err)
	case err == nil && t.failed:
		t.failed = false
		t.env.Log.Info("spans are sent to the collector again")
	}
}

// CheckEndpoint reports what is wrong with the URL of a collector. It quotes nothing: a URL may
// have a credential.
func CheckEndpoint(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("not a URL of the scheme http or https: write it like http://collector.example.com:4318")
	case u.User != nil:
		return errors.New("the URL has a user name: use otlpHeaders for credentials")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("the URL has a query or a fragment: leave it out")
	}
	return nil
}

// TracesURL returns where spans are posted to, for a collector's URL that may have no path.
func TracesURL(endpoint string) string {
	u, err := url.Parse(endpoint)
	if endpoint == "" || err != nil || u.Path != "" && u.Path != "/" {
		return endpoint
	}
	return strings.TrimSuffix(endpoint, "/") + "/v1/traces"
}

// Pairs parses name=value,name=value, with names and values percent-encoded (OpenTelemetry
// "Specifying headers via environment variables"). The error quotes nothing.
func Pairs(text string) (pairs [][2]string, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name, err1 := url.PathUnescape(strings.TrimSpace(name))
		value, err2 := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || err1 != nil || err2 != nil {
			return nil, errors.New("write it like name=value,name=value, with a comma in a value as %2C and a percent sign as %25")
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs, nil
}

// CheckHeaders reports what is wrong with Options.Headers. It quotes nothing.
func CheckHeaders(text string) error {
	pairs, err := Pairs(text)
	for _, p := range pairs {
		if !plain(p[0]) || !printable(p[1]) {
			return errors.New("a name or a value cannot be in a header field: use letters, digits, - and _ in names, and printable characters in values")
		}
	}
	return err
}

// plain reports whether s has letters, digits, dashes and underscores only.
func plain(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
