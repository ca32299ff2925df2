package natsbus

import (
	"errors"

	"github.com/nats-io/nats.go"
)

// Credentials returns the options of nats.go for what a client has to show to a server: a file with
// a user's token and key, one with the seed of a user's nkey, the files of a client certificate,
// and those of the authorities that it trusts. Each may be empty. Error: the certificate, its key
// or the seed is missing.
func Credentials(creds, nkey, cert, key string, rootCAs []string) (options []nats.Option, err error) {
	if (cert == "") != (key == "") {
		return nil, errors.New("a client certificate needs both its certificate and its key file")
	}
	if creds != "" {
		options = append(options, nats.UserCredentials(creds))
	}
	if nkey != "" {
		option, err := nats.NkeyOptionFromSeed(nkey)
		if err != nil {
			return nil, errors.New("the nkey file has no seed of a user, which begins with SU") // the error may quote it
		}
		options = append(options, option)
	}
	if cert != "" {
		options = append(options, nats.ClientCert(cert, key))
	}
	if len(rootCAs) > 0 {
		options = append(options, nats.RootCAs(rootCAs...))
	}
	return options, nil
}
