package memory

import (
	"os"
	"path/filepath"
	"testing"
)

// write makes files below a new root.
func write(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
	v1Mount = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n" +
		"36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)

func TestCgroup(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64 // 0: none
	}{
		{"no proc", nil, 0},
		{"no group", map[string]string{"proc/self/mountinfo": v2Mount}, 0},
		{"not mounted", map[string]string{"proc/self/cgroup": "0::/a\n"}, 0},
		{"v2, a container's own namespace", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/memory.max": "536870912\n",
		}, 512 << 20},
		{"v2, no limit", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.high": "max\n",
		}, 0},
		{"v2, nested, the lowest counts", map[string]string{
			"proc/self/cgroup": "0::/system.slice/sluice.service\n", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/system.slice/memory.max":                "1073741824\n",
			"sys/fs/cgroup/system.slice/sluice.service/memory.max": "2147483648\n",
		}, 1 << 30},
		{"v2, nested, above is no limit", map[string]string{
			"proc/self/cgroup": "0::/a/b/c\n", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/b/c/memory.max": "1000000\n",
		}, 1000000},
		{"v2, throttled before it is killed", map[string]string{
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/a/memory.max": "2000000\n", "sys/fs/cgroup/a/memory.high": "1000000\n",
		}, 1000000},
		{"v2, a mount of a part of the tree", map[string]string{
			"proc/self/cgroup":         "0::/docker/1234/worker\n",
			"proc/self/mountinfo":      "30 23 0:26 /docker/1234 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory.max": "3000000\n", "sys/fs/cgroup/worker/memory.max": "4000000\n",
		}, 3000000},
		{"v2, a path that only begins like the mount's", map[string]string{
			"proc/self/cgroup":         "0::/docker/12345\n",
			"proc/self/mountinfo":      "30 23 0:26 /docker/1234 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory.max": "3000000\n", "sys/fs/cgroup/5/memory.max": "1\n",
		}, 3000000},
		{"v2, a path outside of the namespace", map[string]string{
			"proc/self/cgroup": "0::/../other\n", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/memory.max": "3000000\n",
		}, 3000000},
		{"v2, a mount point with a space", map[string]string{
			"proc/self/cgroup":        "0::/\n",
			"proc/self/mountinfo":     "30 23 0:26 / /sys/my\\040group rw - cgroup2 cgroup2 rw\n",
			"sys/my group/memory.max": "3000000\n",
		}, 3000000},
		{"v1", map[string]string{
			"proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/x\n3:memory:/docker/1\n", "proc/self/mountinfo": v1Mount,
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "268435456\n",
			"sys/fs/cgroup/cpu/x/memory.limit_in_bytes":           "1\n",
		}, 256 << 20},
		{"v1, no limit", map[string]string{
			"proc/self/cgroup": "3:memory:/\n", "proc/self/mountinfo": v1Mount,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.stat":           "cache 12\nhierarchical_memory_limit 9223372036854771712\n",
		}, 0},
		{"v1, a limit above that is not visible", map[string]string{
			"proc/self/cgroup":                           "3:memory:/kubepods/pod1/c1\n",
			"proc/self/mountinfo":                        "35 31 0:32 /kubepods/pod1/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.stat":           "cache 12\nhierarchical_memory_limit 134217728\ntotal_cache 0\n",
		}, 128 << 20},
		{"both versions, the limit is of version 1", map[string]string{
			"proc/self/cgroup":                             "3:memory:/a\n0::/\n",
			"proc/self/mountinfo":                          v1Mount + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "7000000\n",
		}, 7000000},
		{"nonsense", map[string]string{
			"proc/self/cgroup": "0::/\nx\n:::\n", "proc/self/mountinfo": "1\n - \na b c d e - cgroup2\n" + v2Mount,
			"sys/fs/cgroup/memory.max": "lots\n", "sys/fs/cgroup/memory.high": "-5\n",
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Cgroup(write(t, tt.files))
			if ok != (tt.want > 0) || ok && got != tt.want {
				t.Errorf("Cgroup() = %d, %v; want %d", got, ok, tt.want)
			}
		})
	}
}

func TestMachine(t *testing.T) {
	for text, want := range map[string]int64{
		"MemTotal:       16384 kB\nMemFree: 1 kB\n": 16 << 20,
		"MemFree: 1 kB\n":                    0,
		"MemTotal: lots kB\n":                0,
		"MemTotal: 9223372036854775807 kB\n": 0,
	} {
		if got := Machine(write(t, map[string]string{"proc/meminfo": text})); got != want {
			t.Errorf("Machine with %q = %d, want %d", text, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	group := write(t, map[string]string{
		"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/memory.max": "1000000000\n",
	})
	for _, tt := range []struct {
		name    string
		setting int64
		environ string
		root    string
		want    Limit
	}{
		{"nothing", 0, "", t.TempDir(), Limit{}},
		{"the group's", 0, "", group, Limit{Bytes: 800000000, Source: FromCgroup, Group: 1000000000}},
		{"the setting wins", 5 << 20, "1GiB", group, Limit{Bytes: 5 << 20, Source: FromSetting}},
		{"the environment wins over the group", 0, "off", group, Limit{Bytes: Current(), Source: FromEnviron}},
	} {
		if got := Find(tt.setting, tt.environ, tt.root); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
