package certs

import (
	"time"

	"golang.org/x/sys/unix"
)

// stamp is a file's metadata: equal stamps of a settled file mean equal content. No tool can set
// the inode's time of change (ctime), unlike the size and the time of modification.
type stamp struct {
	device, inode  uint64
	size           int64
	changed, wrote int64 // ctime and mtime in nanoseconds of Unix time
}

// settleTime exceeds the clock granularity of any file system. A file that changed less than this
// before it was read may change again within the same timestamp.
const settleTime = 2 * time.Second

// stampOf returns the stamp of a file, the zero stamp if there is none. Reading the file gives the
// reason.
func stampOf(path string) stamp {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return stamp{}
	}
	return stamp{device: uint64(st.Dev), inode: st.Ino, size: st.Size, changed: st.Ctim.Nano(), wrote: st.Mtim.Nano()}
}

// settled reports whether any change after now gives the file another stamp. A time of change in
// the future is another machine's clock: it is not trusted.
func (s stamp) settled(now time.Time) bool {
	return s != stamp{} && now.Sub(time.Unix(0, s.changed)) > settleTime
}
