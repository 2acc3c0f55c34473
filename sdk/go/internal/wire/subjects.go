package wire

import (
	"fmt"
	"strings"
)

// Subjects are those of one worker.
type Subjects struct {
	// Call is the group's queue.
	Call string
	// Own is where what is meant for this worker comes.
	Own string
	// Announce is where workers say that they come and go.
	Announce string
	// Service is the name of the micro service.
	Service string
}

// NewSubjects checks the names and makes the subjects of them: a name never becomes a wildcard or a second token.
func NewSubjects(prefix, group, worker string) (Subjects, error) {
	for _, token := range strings.Split(prefix, ".") {
		if err := checkToken("the subject prefix", token); err != nil {
			return Subjects{}, err
		}
	}
	if err := checkToken("the group", group); err != nil {
		return Subjects{}, err
	}
	if err := checkToken("the worker's id", worker); err != nil {
		return Subjects{}, err
	}
	plain := func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' {
			return c
		}
		return '-'
	}
	base := prefix + "." + group
	return Subjects{
		Call:     base + ".call",
		Own:      base + ".w." + worker,
		Announce: base + ".workers",
		Service:  "nylon-" + strings.Map(plain, group),
	}, nil
}

func checkToken(what, name string) error {
	why := ""
	switch {
	case name == "":
		why = "it is empty"
	case len(name) > MaxName:
		why = "it is longer than 256 bytes"
	case strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune(".*>", c) }):
		why = "'.', '*', '>', spaces and control characters have a meaning there"
	case name[0] == '$':
		why = "'$' starts the server's own subjects"
	default:
		return nil
	}
	return fmt.Errorf("%s %.80q is not usable in a NATS subject: %s", what, name, why)
}
