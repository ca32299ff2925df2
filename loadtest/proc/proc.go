//go:build linux

// Package proc starts the processes of a run, pinned to cores. It measures
// processes and the machine from outside, by /proc and the kernel's CPU clocks.
//
// It owns the processes that it starts: it stops and reaps them, and never signals
// others. It keeps no figures and does not know what a process does.
package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used since it started. A field that the kernel does not
// report is -1.
type Usage struct {
	CPU      time.Duration `json:"cpu"` // user and system, in nanoseconds if the kernel allows
	User     time.Duration `json:"user"`
	Sys      time.Duration `json:"sys"`
	Switches int64         `json:"switches"` // voluntary and involuntary context switches of its threads
	Writes   int64         `json:"writes"`   // write and writev system calls, without send and io_uring
}

// Memory is a process's memory in bytes. A field that the kernel does not report is -1.
type Memory struct {
	RSS int64 `json:"rss"`
	PSS int64 `json:"pss"`
}

// ReadUsage reads a process's usage.
func ReadUsage(pid int) (Usage, error) {
	u := Usage{Switches: -1, Writes: -1}
	fields, err := readStat(pid)
	if err != nil {
		return u, err
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	sys, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return u, err
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all of Go's Linux ports
	u.User, u.Sys = time.Duration(user)*tick, time.Duration(sys)*tick
	u.CPU = u.User + u.Sys
	if exact, err := cpuClock(pid); err == nil {
		u.CPU = exact
	}
	if all, err := switches(pid); err == nil {
		u.Switches = all
	}
	if v, err := value(file(pid, "io"), "syscw:"); err == nil {
		u.Writes = v
	}
	return u, nil
}

// readStat returns the fields of a process's stat after its name.
func readStat(pid int) ([]string, error) {
	stat, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return nil, err
	}
	// The second field is the name in parentheses, which may contain anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("%s has %d fields", file(pid, "stat"), len(fields))
	}
	return fields, nil
}

// Add returns what two processes have used together.
func (u Usage) Add(o Usage) Usage {
	both := Usage{CPU: u.CPU + o.CPU, User: u.User + o.User, Sys: u.Sys + o.Sys, Switches: u.Switches + o.Switches, Writes: u.Writes + o.Writes}
	if u.Switches < 0 || o.Switches < 0 {
		both.Switches = -1
	}
	if u.Writes < 0 || o.Writes < 0 {
		both.Writes = -1
	}
	return both
}

// Sub returns what was used between o and u. The CPU time is split into user and system by
// their ticks.
func (u Usage) Sub(o Usage) Usage {
	d := Usage{CPU: u.CPU - o.CPU, User: u.User - o.User, Sys: u.Sys - o.Sys, Switches: u.Switches - o.Switches, Writes: u.Writes - o.Writes}
	if ticks := d.User + d.Sys; ticks > 0 {
		d.User = time.Duration(float64(d.CPU) * float64(d.User) / float64(ticks))
		d.Sys = d.CPU - d.User
	} else {
		d.User, d.Sys = 0, 0
	}
	if u.Switches < 0 || o.Switches < 0 {
		d.Switches = -1
	}
	if u.Writes < 0 || o.Writes < 0 {
		d.Writes = -1
	}
	return d
}

// cpuClock reads the process's CPU clock. It counts nanoseconds; /proc/PID/stat counts ticks
// of ten milliseconds. The clock id is that of clock_getcpuclockid(3).
func cpuClock(pid int) (time.Duration, error) {
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// switches sums the context switches of a process's threads.
func switches(pid int) (int64, error) {
	tasks, err := filepath.Glob(file(pid, "task/*/status"))
	if err != nil {
		return 0, err
	}
	all := int64(0)
	for _, t := range tasks {
		a, err1 := value(t, "voluntary_ctxt_switches:")
		b, err2 := value(t, "nonvoluntary_ctxt_switches:")
		if err1 == nil && err2 == nil { // the thread may have ended since Glob
			all += a + b
		}
	}
	if len(tasks) == 0 {
		return 0, os.ErrNotExist
	}
	return all, nil
}

// ReadMemory reads a process's memory.
func ReadMemory(pid int) (Memory, error) {
	m := Memory{RSS: -1, PSS: -1}
	// Read once: the kernel walks all pages for it.
	if b, err := os.ReadFile(file(pid, "smaps_rollup")); err == nil {
		rss, err1 := valueIn(string(b), "Rss:")
		pss, err2 := valueIn(string(b), "Pss:")
		if err1 == nil && err2 == nil {
			return Memory{RSS: rss << 10, PSS: pss << 10}, nil
		}
	}
	rss, err := value(file(pid, "status"), "VmRSS:")
	if err != nil {
		return m, err
	}
	m.RSS = rss << 10
	return m, nil
}

// Add returns the memory of two processes together. Their RSS counts pages twice that they share.
func (m Memory) Add(o Memory) Memory {
	both := Memory{RSS: m.RSS + o.RSS, PSS: m.PSS + o.PSS}
	if m.PSS < 0 || o.PSS < 0 {
		both.PSS = -1
	}
	return both
}

// SocketMemory returns the kernel's memory for TCP sockets of the whole machine or network
// namespace, in bytes; -1 if the kernel does not report it.
func SocketMemory() int64 {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == "TCP:" && f[len(f)-2] == "mem" {
			if pages, err := strconv.ParseInt(f[len(f)-1], 10, 64); err == nil {
				return pages * int64(os.Getpagesize())
			}
		}
	}
	return -1
}

// KernelMemory returns what the kernel uses for objects that it cannot give up, sockets among them,
// and for what TCP has queued, in bytes of the whole machine; -1 if the kernel does not report it.
func KernelMemory() int64 {
	objects, err := value("/proc/meminfo", "SUnreclaim:")
	queued := SocketMemory()
	if err != nil || queued < 0 {
		return -1
	}
	return objects<<10 + queued
}

// Machine is the CPU time of all cores together since the machine started.
type Machine struct {
	Busy  time.Duration `json:"busy"`  // user, system, interrupts
	Idle  time.Duration `json:"idle"`  // including the wait for disks
	Steal time.Duration `json:"steal"` // taken by the hypervisor
}

// ReadMachine reads the machine's CPU time.
func ReadMachine() (Machine, error) {
	var m Machine
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return m, errors.New("/proc/stat does not begin with the sum of all cores")
	}
	for i, s := range f[1:9] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return m, err
		}
		d := time.Duration(n) * 10 * time.Millisecond
		switch i {
		case 3, 4:
			m.Idle += d
		case 7:
			m.Steal += d
		default:
			m.Busy += d
		}
	}
	return m, nil
}

// CoreUsage is the CPU time of some cores since the machine started.
type CoreUsage struct {
	Busy     time.Duration // as of Machine
	SoftIRQs time.Duration // of that: what the kernel did for the network and timers, in whatever process
}

// ReadCores reads the CPU time of cores.
func ReadCores(cores []int) (u CoreUsage, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	return coresOf(string(b), cores)
}

// coresOf parses /proc/stat.
func coresOf(stat string, cores []int) (u CoreUsage, err error) {
	found := 0
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		number, ok := strings.CutPrefix(line, "cpu")
		if !ok || len(f) < 9 {
			continue
		}
		number, _, _ = strings.Cut(number, " ")
		core, err := strconv.Atoi(number)
		if err != nil || !slices.Contains(cores, core) {
			continue
		}
		found++
		for i, s := range f[1:8] {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return u, err
			}
			d := time.Duration(n) * 10 * time.Millisecond
			if i != 3 && i != 4 { // idle, and the wait for disks
				u.Busy += d
			}
			if i == 6 {
				u.SoftIRQs += d
			}
		}
	}
	if found != len(cores) {
		return u, fmt.Errorf("/proc/stat has %d of the cores %v", found, cores)
	}
	return u, nil
}

// DroppedPackets returns how many packets the machine's cores have dropped because their queues of
// arriving packets were full, since the machine started.
func DroppedPackets() (int64, error) {
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, err
	}
	return droppedOf(string(b))
}

// droppedOf parses /proc/net/softnet_stat: a line for each core, in hexadecimal.
func droppedOf(stat string) (all int64, err error) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 16, 64)
		if err != nil {
			return 0, err
		}
		all += n
	}
	return all, nil
}

// Sub returns the CPU time between o and u.
func (u CoreUsage) Sub(o CoreUsage) CoreUsage {
	return CoreUsage{Busy: u.Busy - o.Busy, SoftIRQs: u.SoftIRQs - o.SoftIRQs}
}

// Sub returns the CPU time between o and m.
func (m Machine) Sub(o Machine) Machine {
	return Machine{Busy: m.Busy - o.Busy, Idle: m.Idle - o.Idle, Steal: m.Steal - o.Steal}
}

func file(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// value reads the number after a name at the beginning of a line.
func value(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := valueIn(string(b), name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// valueIn returns the number after a name at the beginning of a line of text.
func valueIn(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				return strconv.ParseInt(f[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

// OpenFiles returns the limit of a process's descriptors.
func OpenFiles(pid int) (int, error) {
	b, err := os.ReadFile(file(pid, "limits"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				return strconv.Atoi(f[0])
			}
		}
	}
	return 0, fmt.Errorf("%s has no limit of open files", file(pid, "limits"))
}
