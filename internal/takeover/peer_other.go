//go:build !linux

package takeover

import (
	"errors"
	"net"
)

// sameUser refuses everyone: processes are replaced on Linux only.
func sameUser(net.Conn) error { return errNoLinux }

func processOf(net.Conn) (pid int, ended chan struct{}, err error) { return 0, nil, errNoLinux }

var errNoLinux = errors.New("upgrades need Linux")
