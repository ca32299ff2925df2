// Package bundle collects what a bug report needs from a running gateway into one zip file: its
// settings without credentials, metrics, profiles, goroutines, and what its owners say of
// themselves. It has resource names and addresses of clients, but no values and no tokens.
//
// It never looks into the gateway itself: all comes from the admin port.
package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Source answers GET requests as the admin port does.
type Source interface {
	Get(ctx context.Context, path string) ([]byte, error)
}

// part is a file of the bundle and the path that it comes from.
type part struct{ file, path string }

// parts returns the files, in order. The profiles of a time take seconds each.
func parts(seconds int) []part {
	return []part{
		{"overview.json", "/api/overview"},
		{"config.json", "/api/config"},
		{"metrics.txt", "/metrics"},
		{"resources-by-deliveries.json", "/api/resources?limit=200"},
		{"resources-by-subscribers.json", "/api/resources?limit=200&sort=subscribers"},
		{"connections-slow.json", "/api/connections?limit=200"},
		{"connections-by-requests.json", "/api/connections?limit=200&sort=requests"},
		{"connections-by-subscriptions.json", "/api/connections?limit=200&sort=subscriptions"},
		{"requests.json", "/api/requests?limit=1000"},
		{"goroutines.txt", "/debug/pprof/goroutine?debug=2"},
		{"heap.pb.gz", "/debug/pprof/heap"},
		{"allocs.pb.gz", "/debug/pprof/allocs"},
		{"mutex.pb.gz", "/debug/pprof/mutex"},
		{"block.pb.gz", "/debug/pprof/block"},
		{"cpu.pb.gz", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds)},
		{"trace.out", "/debug/pprof/trace?seconds=1"},
		{"overview-after.json", "/api/overview"},
	}
}

// answerWithin bounds one answer, beside the seconds of a profile.
const answerWithin = 30 * time.Second

// Write collects the bundle into w. What cannot be had is noted in the file errors.txt of the
// bundle, and returned as problems; err is for a gateway that gives nothing, or a w that takes
// nothing. seconds is the length of the CPU profile.
func Write(ctx context.Context, w io.Writer, from Source, seconds int) (problems []string, err error) {
	z := zip.NewWriter(w)
	add := func(name string, text []byte) {
		if err != nil {
			return
		}
		var f io.Writer
		if f, err = z.CreateHeader(&zip.FileHeader{Name: "sluice-bundle/" + name, Method: zip.Deflate, Modified: time.Now()}); err == nil {
			_, err = f.Write(text)
		}
	}
	for i, p := range parts(seconds) {
		within, cancel := context.WithTimeout(ctx, answerWithin+time.Duration(seconds)*time.Second)
		text, failed := from.Get(within, p.path)
		cancel()
		switch {
		case failed != nil && (i == 0 || ctx.Err() != nil):
			return problems, failed
		case failed != nil:
			problems = append(problems, p.file+": "+failed.Error())
		default:
			add(p.file, indent(p.file, text))
		}
	}
	if len(problems) > 0 {
		add("errors.txt", []byte(strings.Join(problems, "\n")+"\n"))
	}
	if err == nil {
		err = z.Close()
	}
	return problems, err
}

// indent makes JSON readable.
func indent(name string, text []byte) []byte {
	var b bytes.Buffer
	if strings.HasSuffix(name, ".json") && json.Indent(&b, text, "", "  ") == nil {
		return b.Bytes()
	}
	return text
}
