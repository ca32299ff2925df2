package takeover

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerOf returns who is at the other end.
func peerOf(c net.Conn) (peer *unix.Ucred, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	if end := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); end != nil {
		return nil, end
	}
	return peer, err
}

// sameUser returns an error unless the process at the other end has this process's user, or is
// root's.
func sameUser(c net.Conn) error {
	peer, err := peerOf(c)
	if err != nil {
		return err
	}
	if int(peer.Uid) != os.Geteuid() && peer.Uid != 0 {
		return errors.New("this gateway belongs to another user")
	}
	return nil
}

// processOf returns the process at the other end, and a channel that is closed when it has ended.
// In another namespace of processes it has the number 0, and its end is not noticed.
func processOf(c net.Conn) (pid int, ended chan struct{}, err error) {
	peer, err := peerOf(c)
	if err != nil {
		return 0, nil, err
	}
	ended = make(chan struct{})
	fd, err := unix.PidfdOpen(int(peer.Pid), 0)
	if err != nil {
		return int(peer.Pid), ended, nil
	}
	go func() {
		defer func() { _ = unix.Close(fd) }()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 {
				close(ended)
			}
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return int(peer.Pid), ended, nil
}
