//go:build linux

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the program in the namespaces, and the one that starts it.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "outer":
		fmt.Println(Run(context.Background(), inside(os.Args[2]), guard()))
	case "guard":
		if err := Guard(os.Stdin); err != nil {
			fmt.Println(err)
		}
	case "holder":
		_, err := lengthen(os.Args[2], guard())
		fmt.Println(err)
		select {}
	case "inner":
		parent, err := Enter(cores())
		if err == nil {
			parent.Report(program(os.Args[2]))
		}
	default:
		os.Exit(m.Run())
	}
}

func inside(what string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "inner", what)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func guard() *exec.Cmd { return exec.Command("/proc/self/exe", "guard") }

// cores returns all cores but the last: those of clients, if there are several.
func cores() []int { return within()[:len(within())-1] }

func within() (all []int) {
	var set unix.CPUSet
	_ = unix.SchedGetaffinity(0, &set)
	for i := range 1024 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}

// program is what runs in the namespaces.
func program(what string) error {
	switch what {
	case "arrivals":
		return arrivals()
	case "fail":
		return errors.New("the program has failed")
	case "signal":
		got := make(chan os.Signal, 1)
		signal.Notify(got, syscall.SIGTERM)
		fmt.Println("ready")
		<-got
		return errors.New("SIGTERM")
	case "children":
		child := exec.Command("sleep", "1000")
		child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := child.Start(); err != nil {
			return err
		}
		net, err := os.Readlink("/proc/self/ns/net")
		fmt.Println(net)
		return errors.Join(err, child.Wait())
	}
	return errors.New("no such program")
}

// arrivals sends from the last core, and asks the kernel where the receiver's packets arrived.
func arrivals() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	runtime.LockOSThread()
	var last unix.CPUSet
	all := within()
	last.Set(all[len(all)-1])
	if err := unix.SchedSetaffinity(0, &last); err != nil {
		return err
	}
	in, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := l.Accept()
	if err != nil {
		return err
	}
	defer out.Close()
	raw, err := in.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	for range 100 {
		if _, err := out.Write([]byte("event")); err != nil {
			return err
		}
		if _, err := io.ReadFull(in, make([]byte, 5)); err != nil {
			return err
		}
		core := -1
		var failed error
		if err := raw.Control(func(fd uintptr) { core, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_INCOMING_CPU) }); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
		if core == all[len(all)-1] {
			return fmt.Errorf("a packet arrived on core %d, which sent it", core)
		}
	}
	if _, err := os.Stat("/proc/1/exe"); err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("process %d", os.Getpid())
	}
	return nil
}

// may reports whether this machine lets tests have namespaces and steering, and logs why not.
func may(t *testing.T) bool {
	t.Helper()
	if len(within()) < 2 {
		t.Log("not tested: there is one core")
		return false
	}
	err := Run(t.Context(), inside("arrivals"), guard())
	var refused Refused
	if errors.As(err, &refused) {
		t.Logf("not tested: %v", refused)
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

func TestReceiversPay(t *testing.T) {
	if !may(t) {
		return
	}
	if err := Run(t.Context(), inside("fail"), guard()); err == nil || err.Error() != "the program has failed" {
		t.Errorf("the program's error: %v", err)
	}
	if err := Run(t.Context(), exec.Command("/no/such/program"), guard()); !errors.As(err, new(Refused)) {
		t.Errorf("no program: %v", err)
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cmd := inside("signal")
	cmd.Stdout = writerFunc(func(b []byte) (int, error) { cancel(); return out.Write(b) })
	if err := Run(ctx, cmd, guard()); err == nil || err.Error() != "SIGTERM" {
		t.Errorf("after the context's end: %v, %s", err, out.String())
	}
	if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != here {
		t.Errorf("this process is in %s now, and was in %s: %v", after, here, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Processes in the namespaces end when the one that started them is killed.
func TestNothingStaysAfterAKill(t *testing.T) {
	if !may(t) {
		return
	}
	cmd := exec.Command("/proc/self/exe", "outer", "children")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	namespace := strings.TrimSpace(string(line[:n]))
	if err != nil || !strings.HasPrefix(namespace, "net:[") || len(inNamespace(namespace)) < 2 {
		t.Errorf("%q, %v: %v", namespace, err, inNamespace(namespace))
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for end := time.Now().Add(time.Minute); len(inNamespace(namespace)) > 0; {
		if time.Now().After(end) {
			t.Fatalf("still there: %v", inNamespace(namespace))
		}
		<-time.After(10 * time.Millisecond)
	}
}

// inNamespace returns the processes of a network namespace.
func inNamespace(name string) (pids []int) {
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if link, err := os.Readlink("/proc/" + e.Name() + "/ns/net"); err == nil && link == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A user without privileges gets namespaces at most, and a reason.
func TestRefusedWithoutPrivileges(t *testing.T) {
	if os.Geteuid() != 0 || len(within()) < 2 {
		t.Log("not tested: it takes root, to leave its privileges, and two cores")
		return
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = d[:strings.LastIndexByte(d, '/')] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := dir + "/program"
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "outer", "arrivals")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrPermission) {
		t.Logf("not tested: that user cannot start the program: %v", err)
		return
	}
	if err != nil || !strings.Contains(string(out), "packets cannot be steered") && !strings.Contains(string(out), "no namespaces") && !strings.Contains(string(out), "of its own") && !strings.Contains(string(out), "cannot be long enough") {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// The queue is long while a run lasts, and as before afterwards, whatever ends the run.
func TestQueue(t *testing.T) {
	file := t.TempDir() + "/queue"
	set := func(v int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strconv.Itoa(v)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want int) bool {
		got, err := readLength(file)
		return err == nil && got == want
	}
	set(1000)
	restore, err := lengthen(file, guard())
	if err != nil || !is(queueLength) {
		t.Fatalf("not lengthened: %v", err)
	}
	restore()
	if !is(1000) {
		t.Error("not restored")
	}
	if restore, err = lengthen(file, guard()); err != nil {
		t.Fatal(err)
	}
	set(77)
	restore()
	if !is(77) {
		t.Error("what another has set is not left")
	}
	set(queueLength + 1)
	if restore, err = lengthen(file, exec.Command("/no/such/program")); err != nil {
		t.Errorf("a long queue: %v", err)
	} else if restore(); !is(queueLength + 1) {
		t.Error("a long queue is changed")
	}
	set(1000)
	if _, err := lengthen(file, exec.Command("/no/such/program")); err == nil || !is(1000) {
		t.Errorf("lengthened without a guard: %v", err)
	}
	if _, err := lengthen(file+"-none", guard()); err == nil {
		t.Error("no file, and no error")
	}

	holder := exec.Command("/proc/self/exe", "holder", file)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	if n, err := out.Read(line); err != nil || string(line[:n]) != "<nil>\n" || !is(queueLength) {
		t.Errorf("%q, %v", line[:n], err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	for end := time.Now().Add(time.Minute); !is(1000); {
		if time.Now().After(end) {
			t.Fatal("not restored after a kill")
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestMask(t *testing.T) {
	for want, cores := range map[string][]int{"0": nil, "1": {0}, "a": {1, 3}, "80000000": {31}, "3,00000001": {0, 32, 33}, "1,00000000,00000000": {64}} {
		if got := mask(cores); got != want {
			t.Errorf("%v: %s, want %s", cores, got, want)
		}
	}
}
