package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/deploy/tools/testkit"
)

// instructions returns the arguments of an instruction of the Dockerfile, one text for each time
// that it is there.
func instructions(t *testing.T, name string) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if args, ok := strings.CutPrefix(line, name+" "); ok {
			all = append(all, strings.TrimSpace(args))
		}
	}
	if len(all) == 0 {
		t.Fatalf("the Dockerfile has no %s", name)
	}
	return all
}

// namespaces reports whether this process may make a control group hierarchy of its own, which
// containers and systemd need. Root in a container often may not.
func namespaces(t *testing.T) bool {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		testkit.Note(t, "only root on Linux can make namespaces")
		return false
	}
	if !testkit.Installed(t, "unshare") {
		return false
	}
	out, err := exec.Command("unshare", "--mount", "--cgroup", "--pid", "--fork", "sh", "-c", "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup").CombinedOutput()
	if err != nil {
		testkit.Note(t, "the kernel gives no namespaces and control groups here: %v: %s", err, bytes.TrimSpace(out))
	}
	return err == nil
}

// A builder makes the image from the Dockerfile, and it runs as a container: as its user, on a root
// that cannot be written to, without capabilities. Its health check succeeds, and a stop is clean.
func TestImage(t *testing.T) {
	t.Parallel()
	if !testkit.Installed(t, "buildah", "podman", "crun", "unshare") || !namespaces(t) {
		testkit.Note(t, "no image was built: TestImageSteps alone runs what the Dockerfile says")
		return
	}
	context := filepath.Dir(unpacked(t, runtime.GOARCH))
	// What a failure leaves behind ends with the namespace of processes.
	out, err := exec.Command("unshare", "--mount", "--cgroup", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "testdata/image.sh", t.TempDir(), "../../Dockerfile", context).CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("sluice v1.2.3\n")) {
		t.Errorf("the container does not run this release:\n%s", out)
	}
	testkit.Note(t, "built by buildah, run by podman")
}

// The steps of the Dockerfile give a root in which the gateway runs as its user, with nothing else
// there, and the health check answers. This needs no builder.
func TestImageSteps(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		testkit.Note(t, "left out: only root on Linux can change the root folder")
		return
	}
	if from := instructions(t, "FROM"); len(from) != 1 || from[0] != "scratch" {
		t.Fatalf("the image is from %q", from)
	}
	if user := instructions(t, "USER"); len(user) != 1 || user[0] != "65532:65532" {
		t.Fatalf("the image's user is %q", user)
	}
	context, root := filepath.Dir(unpacked(t, runtime.GOARCH)), t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range instructions(t, "COPY") {
		from, to, _ := strings.Cut(step, " ")
		text, err := os.ReadFile(filepath.Join(context, from))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(context, from))
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	in := func(environ []string, args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = "/", environ
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return cmd
	}
	entry := command(t, instructions(t, "ENTRYPOINT")[0])
	_, check, _ := strings.Cut(instructions(t, "HEALTHCHECK")[0], "CMD ")
	// Another program may take the free port first: then there is another try.
	deadline := time.Now().Add(2 * time.Minute)
	for {
		environ := []string{"SLUICE_ADDR=127.0.0.1", "SLUICE_PORT=" + testkit.FreePort(t), "SLUICE_EMBEDDED_NATS=true", "SLUICE_EMBEDDED_NATS_LISTEN=127.0.0.1:0"}
		gateway := in(environ, entry...)
		output, err := gateway.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := gateway.Start(); err != nil {
			t.Fatal(err)
		}
		logged := make(chan string, 1)
		go func() {
			text, _ := io.ReadAll(output)
			logged <- string(text)
		}()
		healthy := false
		for !healthy && time.Now().Before(deadline) && syscall.Kill(gateway.Process.Pid, 0) == nil {
			out, err := in(environ, command(t, check)...).CombinedOutput()
			healthy = err == nil && strings.HasPrefix(string(out), "200 ")
			if len(logged) > 0 {
				break
			}
		}
		_ = gateway.Process.Signal(syscall.SIGTERM)
		text := <-logged
		err = gateway.Wait()
		switch {
		case healthy && err == nil:
			return
		case healthy:
			t.Fatalf("the stop: %v\n%s", err, text)
		case !strings.Contains(text, "in use") || time.Now().After(deadline):
			t.Fatalf("the gateway is not healthy: %v\n%s", err, text)
		}
	}
}

// command returns the words of an instruction in the form of a JSON array.
func command(t *testing.T, text string) (words []string) {
	t.Helper()
	for _, w := range strings.Split(strings.Trim(text, "[]"), ",") {
		words = append(words, strings.Trim(strings.TrimSpace(w), `"`))
	}
	return words
}
