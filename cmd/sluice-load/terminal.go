//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/loadtest/run"
)

type writer = io.Writer

// save writes a file completely or not at all.
func save(path string, write func(writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// progress shows the progress of a run: on a terminal a line that changes, and log lines. A
// run calls it from one goroutine.
type progress struct {
	to    io.Writer
	quiet bool
	live  bool
	width int
}

// show draws the line.
func (p *progress) show(s run.Status) {
	if p.quiet || !p.live {
		return
	}
	line := fmt.Sprintf("%d/%d %s %s · %d/%d connections · %.0f/s · p99 %v · CPU %.0f%% · %v left",
		s.Cell, s.Cells, s.Target, s.Scenario, s.Point.Live, s.Connections, s.Point.Rate,
		time.Duration(s.Point.P99)*time.Microsecond, max(s.Point.CPU, 0)*100, s.Left)
	n := len([]rune(line))
	fmt.Fprint(p.to, "\r", line, strings.Repeat(" ", max(p.width-n, 0)))
	p.width = n
}

// say prints a log line.
func (p *progress) say(line string) {
	if p.quiet {
		return
	}
	p.end()
	fmt.Fprintln(p.to, line)
}

// end clears the line.
func (p *progress) end() {
	if p.width > 0 {
		fmt.Fprint(p.to, "\r", strings.Repeat(" ", p.width), "\r")
		p.width = 0
	}
}

// terminal reports whether f is a terminal.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
