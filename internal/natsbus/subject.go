package natsbus

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// maxControlLine is the default limit of a NATS server for the arguments of one protocol line
// (max_control_line). It closes the connection after a longer line. A server does not announce its
// limit: a lower one is learnt when it closes the connection (link.learnLineLimit).
const maxControlLine = 4096

// checkSubject rejects subjects that would make a NATS server close the connection, or that match
// more than one subject: empty tokens, white space, control characters, wildcards.
func checkSubject(s string) error {
	if s == "" || s[len(s)-1] == '.' {
		return ErrBadSubject
	}
	last := byte('.')
	for i := range len(s) {
		c := s[i]
		switch {
		case c <= ' ' || c == 0x7f || c == '*' || c == '>':
			return ErrBadSubject
		case c == '.' && last == '.':
			return ErrBadSubject
		}
		last = c
	}
	return nil
}

// publishLine is the length of `<subject> <reply> <size>`.
func publishLine(subject string, replyLen, size int) int {
	digits := 1
	for n := size; n >= 10; n /= 10 {
		digits++
	}
	return len(subject) + 1 + replyLen + 1 + digits
}

// subscribeLine is the length of `event.<name>.*  <sid>`. nats.go leaves two spaces where the queue
// group would be, and a sid has at most 19 digits.
func subscribeLine(name string) int { return len("event.") + len(name) + len(".*") + 2 + 19 }

// checkPublish also checks the length of the line.
func checkPublish(subject string, line, limit int) error {
	if line > limit {
		return ErrSubjectTooLong
	}
	return checkSubject(subject)
}

// checkEventName checks the name of a resource and the length of the line that subscribes to its
// events.
func checkEventName(name string, limit int) error {
	if subscribeLine(name) > limit {
		return ErrSubjectTooLong
	}
	return checkSubject(name)
}

// replyTokenLen is the length of the last token of a reply subject. The token holds the owner, slot
// and generation of the request, and the number of the newest subscription when it was sent. So a
// reply leads to its request without a table shared by dispatcher and owners, and implies which
// subscriptions the server has judged.
const replyTokenLen = 22 // 16 bytes in unpadded base64

// The URL alphabet has no character with a meaning in NATS subjects.
var replyEncoding = base64.RawURLEncoding

func appendReplyToken(dst []byte, owner, made, slot, gen uint32) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint32(raw[0:], owner)
	binary.BigEndian.PutUint32(raw[4:], made)
	binary.BigEndian.PutUint32(raw[8:], slot)
	binary.BigEndian.PutUint32(raw[12:], gen)
	return replyEncoding.AppendEncode(dst, raw[:])
}

func parseReplyToken(token string) (r Reply, ok bool) {
	if len(token) != replyTokenLen {
		return Reply{}, false
	}
	var src [replyTokenLen]byte
	copy(src[:], token)
	var raw [18]byte
	if n, err := replyEncoding.Decode(raw[:], src[:]); err != nil || n != 16 {
		return Reply{}, false
	}
	return Reply{
		Owner: binary.BigEndian.Uint32(raw[0:]),
		made:  binary.BigEndian.Uint32(raw[4:]),
		slot:  binary.BigEndian.Uint32(raw[8:]),
		gen:   binary.BigEndian.Uint32(raw[12:]),
	}, true
}

// isPreResponse reports whether a reply only extends the timeout: it begins with a letter (RES.md
// 3.1).
func isPreResponse(data []byte) bool {
	return len(data) > 0 && (data[0]|0x20) >= 'a' && (data[0]|0x20) <= 'z'
}

// maxExtension bounds the timeout that a pre-response can set.
const maxExtension = 24 * time.Hour

// parsePreResponse reads the timeout from `timeout:"15000"`, which may be among other key:"value"
// pairs. ok is false if there is no usable timeout.
func parsePreResponse(data []byte) (timeout time.Duration, ok bool) {
	rest := string(data)
	for rest != "" {
		key, after, found := strings.Cut(rest, `:"`)
		if !found {
			return 0, false
		}
		value, next, found := strings.Cut(after, `"`)
		if !found {
			return 0, false
		}
		if strings.TrimSpace(key) == "timeout" {
			ms, err := strconv.ParseInt(value, 10, 64)
			if err != nil || ms < 0 {
				return 0, false
			}
			if ms > int64(maxExtension/time.Millisecond) {
				return maxExtension, true
			}
			return time.Duration(ms) * time.Millisecond, true
		}
		rest = next
	}
	return 0, false
}
