package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Main is a TestMain that builds programs first. Each variable gets the path of the program that
// its package is built to. They are removed after the last test.
func Main(m *testing.M, programs map[*string]string) {
	os.Exit(run(m, programs))
}

func run(m *testing.M, programs map[*string]string) int {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for program, pkg := range programs {
		*program = filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-"))
		if out, err := exec.Command("go", "build", "-o", *program, pkg).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}
