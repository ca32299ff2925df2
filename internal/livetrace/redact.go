package livetrace

import (
	"bytes"
	"encoding/json"
	"strings"
)

// hiddenText replaces a secret.
const hiddenText = `"…"`

// secretParts and secretNames are the names of members whose values are not shown: those that
// contain a part, and those that are equal to a name, in lower case and without - and _.
var (
	secretParts = []string{
		"token", "password", "passwd", "passphrase", "secret", "authorization", "cookie", "apikey", "accesskey", "privatekey", "credential", "jwt", "sessionid",
	}
	secretNames = map[string]bool{"pass": true, "pwd": true, "pin": true, "otp": true, "auth": true, "header": true}
)

// isSecret reports whether the values of a name are not shown.
func isSecret(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(name))
	if secretNames[name] {
		return true
	}
	for _, part := range secretParts {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// redact returns a JSON text, of which the end may be missing, without the values of secret members
// at any depth, and without strings that look like a JSON Web Token. Other bytes are not changed,
// so that a text that is not JSON is shown as well.
func redact(text []byte) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '"' {
			out.WriteByte(text[i])
			i++
			continue
		}
		end, whole := stringEnd(text, i)
		colon := skipSpace(text, end)
		switch {
		case whole && colon < len(text) && text[colon] == ':' && isSecret(unquote(text[i:end])):
			out.Write(text[i : colon+1])
			i = skipSpace(text, colon+1)
			next := skipValue(text, i)
			switch value := text[i:next]; string(value) {
			case "null", "true", "false", "":
				out.Write(value)
			default:
				out.WriteString(hiddenText)
			}
			i = next
		case bytes.HasPrefix(text[i+1:end], []byte("eyJ")) && bytes.IndexByte(text[i:end], ' ') < 0:
			out.WriteString(hiddenText)
			i = end
		default:
			out.Write(text[i:end])
			i = end
		}
	}
	return strings.ToValidUTF8(out.String(), "\uFFFD")
}

// stringEnd returns the index after the string that begins at i; whole reports whether its end is
// there.
func stringEnd(text []byte, i int) (end int, whole bool) {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true
		}
	}
	return len(text), false
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && strings.IndexByte(" \t\r\n", text[i]) >= 0 {
		i++
	}
	return i
}

// skipValue returns the index after the value that begins at i, or that of the end of the text.
func skipValue(text []byte, i int) int {
	for depth := 0; i < len(text); {
		switch text[i] {
		case '"':
			i, _ = stringEnd(text, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i // of the object around the value
			}
			if depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return len(text)
}

// unquote returns the text of a JSON string.
func unquote(quoted []byte) (text string) {
	if json.Unmarshal(quoted, &text) != nil {
		return string(quoted)
	}
	return text
}

// RedactRID returns a resource ID without the values of secret parameters of its query.
func RedactRID(rid string) string {
	name, query, ok := strings.Cut(rid, "?")
	if !ok {
		return rid
	}
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if key, _, ok := strings.Cut(p, "="); ok && isSecret(key) {
			parts[i] = key + "=…"
		}
	}
	return name + "?" + strings.Join(parts, "&")
}
