package res

import "strconv"

// Version is a version of the RES protocol as one ordered number: major·1,000,000 + minor·1,000 +
// patch.
type Version uint32

// Versions that changed the messages to clients (RES.md 2.5), and the version that the gateway
// implements.
const (
	V1_1_1  Version = 1_001_001 // the default for a client that states no version
	V1_2_0  Version = 1_002_000 // call and auth results are wrapped, and resource answers subscribe
	V1_2_1  Version = 1_002_001 // soft references and data values
	Current Version = 1_002_003
)

// ParseVersion parses a client's protocol version (RES.md 2.1). An empty string is V1_1_1. The
// error is an ErrInvalidParams unless s is three decimal numbers below 1000 joined by dots, and
// ErrUnsupportedProtocol if the major version is not 1.
func ParseVersion(s string) (Version, *Error) {
	if s == "" {
		return V1_1_1, nil
	}
	var v Version
	dots, digits, n := 0, 0, Version(0)
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			n = n*10 + Version(c-'0')
			digits++
			if n >= 1000 {
				return 0, errProtocol
			}
		case c == '.' && digits > 0 && dots < 2:
			v = v*1000 + n
			dots, digits, n = dots+1, 0, 0
		default:
			return 0, errProtocol
		}
	}
	if dots != 2 || digits == 0 {
		return 0, errProtocol
	}
	v = v*1000 + n
	if v/1_000_000 != 1 {
		return 0, ErrUnsupportedProtocol
	}
	return v, nil
}

// String returns the version in its dotted form.
func (v Version) String() string {
	b := strconv.AppendUint(nil, uint64(v/1_000_000), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(v/1000%1000), 10)
	b = append(b, '.')
	return string(strconv.AppendUint(b, uint64(v%1000), 10))
}
