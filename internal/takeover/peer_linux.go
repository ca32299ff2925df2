package takeover

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// sameUser returns an error unless the process at the other end has this process's user, or is
// root's.
func sameUser(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if end := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); end != nil {
		return end
	}
	if err != nil {
		return err
	}
	if int(peer.Uid) != os.Geteuid() && peer.Uid != 0 {
		return errors.New("this gateway belongs to another user")
	}
	return nil
}
