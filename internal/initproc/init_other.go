//go:build !linux

package initproc

import (
	"errors"
	"os"
)

// Run is for Linux only: elsewhere nothing takes over.
func Run(string, []string, []string, <-chan os.Signal) (int, error) {
	return 0, errors.New("sluice init needs Linux")
}
