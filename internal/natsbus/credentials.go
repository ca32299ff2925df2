package natsbus

import (
	"errors"

	"github.com/nats-io/nats.go"
)

// Credentials returns the options of nats.go for what a client has to show to a server: a file with
// a user's token and key, the files of a client certificate, and those of the authorities that it
// trusts. Each may be empty. The files are read when the options are applied. Error: the
// certificate or its key is missing.
func Credentials(creds, cert, key string, rootCAs []string) (options []nats.Option, err error) {
	if (cert == "") != (key == "") {
		return nil, errors.New("a client certificate needs both its certificate and its key file")
	}
	if creds != "" {
		options = append(options, nats.UserCredentials(creds))
	}
	if cert != "" {
		options = append(options, nats.ClientCert(cert, key))
	}
	if len(rootCAs) > 0 {
		options = append(options, nats.RootCAs(rootCAs...))
	}
	return options, nil
}
