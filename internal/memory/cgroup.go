package memory

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// unlimited is the value from which a limit of version 1 means none: the kernel writes the highest
// multiple of the page size that an int64 holds.
const unlimited = 1 << 60

// Cgroup returns the memory limit of the process's control group in bytes: the lowest of the group
// and the groups that it is nested in, as far as they are visible. ok is false if there is none.
// root is where the file system begins: "/", or a folder of files in tests.
//
// Both versions are read, and the lowest of their limits counts. A group of version 2 has two
// limits: the kernel kills above memory.max, and throttles above memory.high, which is as good as a
// standstill.
func Cgroup(root string) (limit int64, ok bool) {
	groups := readGroups(root)
	if len(groups) == 0 {
		return 0, false
	}
	limit = math.MaxInt64
	for _, m := range readMounts(root) {
		path, member := groups[m.version]
		if !member {
			continue
		}
		limit = min(limit, m.lowest(root, path))
	}
	return limit, limit < unlimited
}

// version is of the control group interface.
type version int

// readGroups returns the path of the process's group in each hierarchy that may limit memory
// (cgroups(7), /proc/pid/cgroup).
func readGroups(root string) map[version]string {
	groups := make(map[version]string)
	for line := range lines(filepath.Join(root, "proc/self/cgroup")) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			groups[2] = parts[2]
		case has(parts[1], "memory"):
			groups[1] = parts[2]
		}
	}
	return groups
}

// mount is where a hierarchy is mounted.
type mount struct {
	version version
	top     string // the group that the mount shows as its root
	point   string
}

// readMounts returns the mounted hierarchies that may limit memory (proc(5), /proc/pid/mountinfo).
func readMounts(root string) (all []mount) {
	for line := range lines(filepath.Join(root, "proc/self/mountinfo")) {
		before, after, found := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		m := mount{top: unescape(fields[3]), point: unescape(fields[4])}
		switch {
		case kind[0] == "cgroup2":
			m.version = 2
		case kind[0] == "cgroup" && has(kind[2], "memory"):
			m.version = 1
		default:
			continue
		}
		all = append(all, m)
	}
	return all
}

// lowest returns the lowest limit from the group at path up to the mount's root; math.MaxInt64 if
// there is none. In a container the path may be one of the host's that the mount does not show:
// then the container's group is the mount's root.
func (m mount) lowest(root, path string) int64 {
	inside, found := strings.CutPrefix(filepath.Clean("/"+path), strings.TrimSuffix(m.top, "/"))
	if !found || inside != "" && inside[0] != '/' {
		inside = "/"
	}
	limit := int64(math.MaxInt64)
	for group := filepath.Clean("/" + inside); ; group = filepath.Dir(group) {
		limit = min(limit, m.limitOf(filepath.Join(root, m.point, group)))
		if group == "/" {
			return limit
		}
	}
}

// limitOf returns the limit of one group; math.MaxInt64 if it has none.
func (m mount) limitOf(dir string) int64 {
	if m.version == 2 {
		return min(readNumber(filepath.Join(dir, "memory.max")), readNumber(filepath.Join(dir, "memory.high")))
	}
	limit := readNumber(filepath.Join(dir, "memory.limit_in_bytes"))
	for line := range lines(filepath.Join(dir, "memory.stat")) {
		// The groups above count, also those that a container does not see.
		if text, found := strings.CutPrefix(line, "hierarchical_memory_limit "); found {
			limit = min(limit, number(text))
		}
	}
	return limit
}

// Machine returns the machine's memory in bytes, 0 if it is unknown.
func Machine(root string) int64 {
	for line := range lines(filepath.Join(root, "proc/meminfo")) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			if n := number(fields[1]); n < unlimited>>10 {
				return n << 10
			}
		}
	}
	return 0
}

// lines yields the lines of a file; none if it cannot be read.
func lines(file string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		text, err := os.ReadFile(file)
		if err != nil {
			return
		}
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

// readNumber returns the number in a file; math.MaxInt64 if there is none, as for "max".
func readNumber(file string) int64 {
	for line := range lines(file) {
		return number(line)
	}
	return math.MaxInt64
}

// number returns the positive number that s is; math.MaxInt64 if it is none. A limit of 0, which a
// group without processes may have, is none either.
func number(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}

// has reports whether a list separated by commas has an element.
func has(list, element string) bool {
	for e := range strings.SplitSeq(list, ",") {
		if e == element {
			return true
		}
	}
	return false
}

// unescape replaces the octal escapes of /proc/pid/mountinfo: of space, tab, newline and backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
