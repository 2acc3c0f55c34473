package sdk

import (
	"slices"
	"strings"
)

// Headers are header fields as they were when they were read. Names are case-insensitive.
type Headers struct {
	fields []field
}

// Get gives the value of a header, empty where there is none. A header that occurs more than once is one value, joined as
// RFC 9110, 5.3 says; of set-cookie, which cannot be joined, it is the first.
func (h *Headers) Get(name string) string {
	value, _ := h.Lookup(name)
	return value
}

// Lookup is Get that also says whether the header is there.
func (h *Headers) Lookup(name string) (value string, there bool) {
	values := h.Values(name)
	if len(values) == 0 {
		return "", false
	}
	return joined(strings.ToLower(name), values), true
}

// Values gives the values of a header one by one, as far as the host tells them apart: in the gateway's process they come
// joined, but for set-cookie.
func (h *Headers) Values(name string) []string {
	name = strings.ToLower(name)
	var values []string
	for _, field := range h.fields {
		if field.name == name {
			values = append(values, field.value)
		}
	}
	return values
}

// Names gives the names in lower case, each once, in the order in which they came.
func (h *Headers) Names() []string {
	var names []string
	for _, field := range h.fields {
		if !slices.Contains(names, field.name) {
			names = append(names, field.name)
		}
	}
	return names
}

// GetAll gives all headers: names in lower case with what Get gives for them.
func (h *Headers) GetAll() map[string]string {
	byName := map[string][]string{}
	for _, field := range h.fields {
		byName[field.name] = append(byName[field.name], field.value)
	}
	all := make(map[string]string, len(byName))
	for name, values := range byName {
		all[name] = joined(name, values)
	}
	return all
}

func (h *Headers) String() string {
	lines := make([]string, len(h.fields))
	for i, field := range h.fields {
		lines[i] = field.name + ": " + field.value
	}
	return strings.Join(lines, "\n")
}

func joined(name string, values []string) string {
	switch name {
	case "set-cookie":
		return values[0]
	case "cookie":
		return strings.Join(values, "; ")
	default:
		return strings.Join(values, ", ")
	}
}

// checkedName gives a header's name in lower case, or panics.
func checkedName(name string) string {
	for i := range len(name) {
		if !isToken(name[i]) {
			invalid("header name", name, "a field name is a token, such as x-user")
		}
	}
	if name == "" {
		invalid("header name", name, "a field name is a token, such as x-user")
	}
	return strings.ToLower(name)
}

// checkedValue panics where a header's value is not one (RFC 9110, 5.5).
func checkedValue(value string) []byte {
	for i := range len(value) {
		if b := value[i]; b < 0x20 && b != '\t' || b == 0x7f {
			invalid("header value", value, "a field value holds no line break, NUL or other control character")
		}
	}
	return []byte(value)
}

func isToken(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

func invalid(what, value, why string) {
	panic(&InvalidValueError{What: what, Value: value[:min(len(value), 80)], Why: why})
}
