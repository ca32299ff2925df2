// Package client asks the admin port of a gateway, which may be on another machine.
//
// It never interprets what it gets, and never puts the token into an error.
package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// DefaultURL is where the admin port is unless another URL is given.
const DefaultURL = "http://127.0.0.1:8090"

// Options say where the admin port is and what it demands. The zero value is DefaultURL without a
// token.
type Options struct {
	URL       string
	TokenFile string
	CA        string // file with the authorities of the server's certificate; empty: the system's
	Cert, Key string // files of the client's certificate; empty: none
}

// Flags adds a flag for each option.
func (o *Options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.URL, "url", DefaultURL, "`URL` of the admin port")
	f.StringVar(&o.TokenFile, "token-file", "", "`file` with the token that the admin port demands")
	f.StringVar(&o.CA, "ca", "", "CA `file` of the admin port's certificate; empty: the system's")
	f.StringVar(&o.Cert, "cert", "", "client certificate `file`, for adminClientCa")
	f.StringVar(&o.Key, "key", "", "private key `file` of the client certificate")
}

// Client asks one admin port. Any goroutine may use it.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New returns a client. The error says which option is wrong.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the URL must be like %s, without a user name", DefaultURL)
	}
	c := &Client{base: strings.TrimSuffix(o.URL, "/")}
	if o.TokenFile != "" {
		text, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return nil, err
		}
		c.token = strings.TrimSpace(string(text))
	}
	t := &tls.Config{}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", o.CA)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("cert and key belong together: give both or none")
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	c.http = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token stays here
	}
	return c, nil
}

// maxResponse bounds a response, in bytes.
const maxResponse = 256 << 20

// Get returns the response to a GET of a path, such as /api/overview. A status other than 200 is an
// error with the reason that the gateway gives.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	body, err := c.open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readAll(body, path)
}

// open sends a GET. The caller closes the body of the response, whose status is 200.
func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	body, err := readAll(resp.Body, path)
	if err != nil {
		return nil, err
	}
	var e struct{ Error string }
	if json.Unmarshal(body, &e) != nil || e.Error == "" {
		e.Error = "is this the admin port of a gateway?"
	}
	return nil, fmt.Errorf("%s: %s", resp.Status, e.Error)
}

func readAll(from io.Reader, path string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxResponse+1))
	if err == nil && len(body) > maxResponse {
		err = fmt.Errorf("%s: the response is longer than %d bytes", path, maxResponse)
	}
	return body, err
}

// maxLine bounds a line of a stream, in bytes.
const maxLine = 1 << 20

// Stream calls f with each line of the response to a GET, as it comes, until the end, or until f
// returns an error, which it returns. f must not keep the line.
func (c *Client) Stream(ctx context.Context, path string, f func(line []byte) error) error {
	body, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := f(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// GetJSON reads the response to a GET into v.
func (c *Client) GetJSON(ctx context.Context, path string, v any) error {
	body, err := c.Get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: %w: is this the admin port of a gateway?", path, err)
	}
	return nil
}
