package netpoll

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// claimPort checks that no other program listens on addr, and reserves its port. It never listens:
// the port opens when the event loops do, so no client connects to a gateway that cannot serve it.
// hold is a bound socket that never listens; it keeps the port while gnet restarts, -1 if none is
// needed.
//
// gnet's listeners have SO_REUSEPORT and would share the port of another program without an error.
// A bind without it fails if any other socket listens there.
func claimPort(addr string) (bound *net.TCPAddr, hold int, err error) {
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, -1, err
	}
	// SO_REUSEADDR permits connections of an earlier process in TIME_WAIT. A free port needs no
	// such permission, and must not be one that another program has bound and not yet listens on.
	check, err := bindPort(at, reuse{addr: at.Port != 0})
	if err != nil {
		return nil, -1, err
	}
	closeCheck := func() {
		if check >= 0 {
			_ = unix.Close(check)
			check = -1
		}
	}
	defer closeCheck()
	if bound, err = localAddr(check, at); err != nil {
		return nil, -1, err
	}
	// While the check is bound, so that no other program takes the port in between.
	_ = unix.SetsockoptInt(check, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(check, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	hold, err = bindPort(bound, reuse{addr: true, port: true})
	if errors.Is(err, unix.EADDRINUSE) { // a kernel that decides by the options at the check's bind
		closeCheck()
		hold, err = bindPort(bound, reuse{addr: true, port: true})
	}
	if err != nil {
		return nil, -1, err
	}
	if bound.IP == nil {
		bound.IP = net.IPv6unspecified
	}
	return bound, hold, nil
}

// reuse says which sockets may share an address.
type reuse struct{ addr, port bool }

// bindPort returns a socket that is bound to an address in the way that gnet binds its listeners.
func bindPort(at *net.TCPAddr, share reuse) (fd int, err error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: at.Port, ZoneId: zoneID(at.Zone)})
	only := 0 // no address: IPv4 as well
	switch ip := at.IP.To4(); {
	case ip != nil:
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(ip)}
	case at.IP != nil:
		sa.(*unix.SockaddrInet6).Addr = [16]byte(at.IP.To16())
		only = 1
	}
	fd, err = socket(family)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err == nil && share.addr {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && share.port {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// zoneID returns the index of an IPv6 zone's interface, 0 if there is none.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

// localAddr returns asked with the port that the socket is bound to. IP is nil if asked names none.
func localAddr(fd int, asked *net.TCPAddr) (*net.TCPAddr, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	bound := *asked
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		bound.Port = a.Port
	case *unix.SockaddrInet6:
		bound.Port = a.Port
	}
	return &bound, nil
}

// listenError says why an address cannot be listened on.
func listenError(addr string, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("netpoll: %s is in use by another program: stop it, or choose another port: %w", addr, err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("netpoll: no permission to listen on %s: choose a port from 1024 on, or give the program CAP_NET_BIND_SERVICE: %w", addr, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("netpoll: %s is not an address of this machine: %w", addr, err)
	}
	return fmt.Errorf("netpoll: cannot listen on %s: %w", addr, err)
}
