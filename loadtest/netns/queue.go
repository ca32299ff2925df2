//go:build linux

package netns

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// A core that gets packets from another one queues them, and the kernel drops what exceeds the
// queue's length. Its default, 1,000, is less than a fan-out sends at once, and each drop costs TCP
// 200 ms.
const (
	queueFile   = "/proc/sys/net/core/netdev_max_backlog" // of the machine, in packets
	queueLength = 1 << 20
)

// lengthen makes the queue long until restore is called. guard is a process that runs Guard: it
// restores the length also if this process is killed.
func lengthen(file string, guard *exec.Cmd) (restore func(), err error) {
	old, err := readLength(file)
	if err != nil || old >= queueLength {
		return func() {}, err
	}
	in, err := guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's signals are not for it
	if err := guard.Start(); err != nil {
		return nil, err
	}
	restore = func() {
		_ = in.Close()
		_ = guard.Wait()
	}
	_, err = fmt.Fprintf(in, "%s %d\n", file, old)
	if err == nil {
		err = os.WriteFile(file, []byte(strconv.Itoa(queueLength)), 0o600)
	}
	if err != nil {
		restore()
		return nil, err
	}
	return restore, nil
}

// Guard is the main function of a process that restores what Run changes of the machine, when the
// input from Run ends. It leaves what another has changed since.
func Guard(in io.Reader) error {
	r := bufio.NewReader(in)
	line, err := r.ReadString('\n')
	if err == io.EOF {
		return nil // nothing was changed
	}
	if err != nil {
		return err
	}
	file, old, _ := strings.Cut(strings.TrimSpace(line), " ")
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if now, err := readLength(file); err != nil || now != queueLength {
		return err
	}
	return os.WriteFile(file, []byte(old), 0o600)
}

func readLength(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
