//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Parent is the way back to the process that called Run.
type Parent struct{ to *os.File }

// Enter prepares the namespaces that Run has started this process in: a view of its own processes,
// a loopback that is up, and packets that are received on some cores. It tells the caller of Run.
// After an error the process should end: the caller has the reason.
func Enter(cores []int) (Parent, error) {
	unix.CloseOnExec(3) // the processes of a run must not keep the pipe open
	p := Parent{os.NewFile(3, "parent")}
	err := prepare(cores)
	line := entered
	if err != nil {
		line = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if _, told := fmt.Fprintln(p.to, line); told != nil {
		return p, errors.Join(err, told)
	}
	return p, err
}

// Report tells the caller of Run how the program ended. It must be called once, at the end.
func (p Parent) Report(err error) {
	if err != nil {
		_, _ = fmt.Fprint(p.to, err)
	}
	_ = p.to.Close()
}

func prepare(cores []int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("no mounts of its own: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("no /proc of its own: %w", err)
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("no loopback of its own: %w", err)
	}
	return steer(cores)
}

// loopback sets the namespace's loopback up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// steer has what arrives at the loopback processed on some cores. The machine's /sys shows the
// machine's network, so it mounts the namespace's for this, beside it: control groups stay visible.
func steer(cores []int) (err error) {
	dir, err := os.MkdirTemp("", "netns")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("sysfs", dir, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("no /sys of its own: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	file, want := filepath.Join(dir, "class/net/lo/queues/rx-0/rps_cpus"), mask(cores)
	// A write has its error where the kernel does not let these privileges steer packets.
	if err := os.WriteFile(file, []byte(want), 0); err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			err = errno // the path means nothing outside
		}
		return fmt.Errorf("packets cannot be steered to cores: %w", err)
	}
	return nil
}

// mask returns cores as the kernel writes sets of them: words of 32 bits in hexadecimal, the
// highest first, separated by commas.
func mask(cores []int) string {
	words := []uint32{0}
	for _, c := range cores {
		for len(words) <= c/32 {
			words = append(words, 0)
		}
		words[c/32] |= 1 << (c % 32)
	}
	text := fmt.Sprintf("%x", words[len(words)-1])
	for i := len(words) - 2; i >= 0; i-- {
		text += fmt.Sprintf(",%08x", words[i])
	}
	return text
}
