package restest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"sluice/gateway"
	"sluice/internal/testkit"
)

// running is a gateway under test. It implements Gateway.
type running struct {
	g     *gateway.Gateway
	path  string       // of upgrades
	admin net.Listener // nil: it has no admin port
}

func (r running) URL() string { return "ws://" + r.g.Addr().String() + r.path }

func (r running) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	_ = r.g.Stop(ctx)
}

// look returns what the gateway has that is not at rest, for a failure's message.
func (r running) look() string {
	var b strings.Builder
	client := http.Client{Timeout: testkit.Patience}
	for _, path := range []string{"overview", "requests?limit=20", "connections?limit=20", "resources?limit=60"} {
		resp, err := client.Get("http://" + r.admin.Addr().String() + "/api/" + path)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Fprintf(&b, "%s: %s\n", path, text)
	}
	return b.String()
}

// startGateway starts a gateway as a transcript's settings say; change may set what belongs to the
// test.
func startGateway(st Start, change func(*gateway.Config)) (Gateway, error) {
	c := gateway.Config{
		Addr: "127.0.0.1", Port: gateway.FreePort, NATSURL: gateway.NATSURL(st.NATS), NATSTimeout: testkit.Patience,
		NATSPing:     time.Minute, // a busy machine does not lose NATS
		DrainTimeout: gateway.Off, Log: st.Log,
		CacheEvictionMost: gateway.Off, // the protocol's 5 s; transcripts say if resources stay for longer
	}
	if st.Clock != nil {
		c.Clock = st.Clock
	}
	if change != nil {
		change(&c)
	}
	for key, value := range st.Settings {
		if err := setField(&c, key, value); err != nil {
			return nil, err
		}
	}
	g, err := gateway.New(c)
	if err != nil {
		return nil, err
	}
	if err := g.Start(context.Background()); err != nil {
		return nil, err
	}
	path := c.WSPath
	if path == "" {
		path = "/"
	}
	return running{g, path, c.AdminListener}, nil
}

// setField sets the field of Config whose name is the key, upper and lower case being the same.
func setField(c *gateway.Config, key, value string) error {
	f := reflect.ValueOf(c).Elem().FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, key) })
	switch {
	case !f.IsValid():
		return fmt.Errorf("no setting %s", key)
	case f.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(value)
		if err != nil {
			return err
		}
		f.SetInt(int64(d))
	case f.CanInt():
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		f.SetInt(int64(n))
	case f.Type() == reflect.TypeFor[[]string]():
		f.Set(reflect.ValueOf(strings.Fields(value)))
	case f.Kind() == reflect.String:
		f.SetString(value)
	case f.Kind() == reflect.Bool:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return err
		}
		f.SetBool(on)
	default:
		return fmt.Errorf("setting %s cannot be set by a transcript", key)
	}
	return nil
}
