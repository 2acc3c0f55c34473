package wire

import (
	"strconv"
	"strings"
)

// Shape is what an entry's handlers want.
type Shape struct {
	// Phases has one bit for each phase that there is a handler for, from 1 for request_filter.
	Phases uint8
	// Body: its request_filter wants the request body.
	Body bool
	// Stream: its response_body_filter is called by chunk.
	Stream bool
	// Session: it keeps sessions, so an exchange's later phases must come to this worker.
	Session bool
}

// Has tells whether there is a handler for the phase.
func (s Shape) Has(phase uint8) bool { return s.Phases&(1<<(phase-1)) != 0 }

var phaseNames = []string{"request_filter", "response_filter", "response_body_filter", "logging"}

// words is the shape as the micro service's metadata has it.
func (s Shape) words() string {
	var words []string
	for i, name := range phaseNames {
		if s.Has(uint8(i + 1)) {
			words = append(words, name)
		}
	}
	for _, flag := range s.flags() {
		if flag.set {
			words = append(words, flag.word)
		}
	}
	return strings.Join(words, " ")
}

type flag struct {
	key, word string
	set       bool
}

func (s Shape) flags() [3]flag {
	return [3]flag{{"b", "body", s.Body}, {"c", "stream", s.Stream}, {"s", "session", s.Session}}
}

func (w *writer) shape(shape Shape) {
	m := w.open()
	w.key(&m, "p").uint(uint64(shape.Phases))
	for _, flag := range shape.flags() {
		if flag.set {
			w.key(&m, flag.key).bool(true)
		}
	}
	w.close(m)
}

// Entry is an entry's name and shape.
type Entry struct {
	Name  string
	Shape Shape
}

// Info is what a worker says of itself.
type Info struct {
	Worker      string
	Group       string
	Software    string
	Concurrency int
	Entries     []Entry
}

// Append appends it as the frame that announces the worker.
func (info *Info) Append(out []byte) ([]byte, error) {
	if len(info.Entries) > MaxEntries {
		return out, tooLarge("the number of entries", MaxEntries)
	}
	w, m := frame(out, KindInfo)
	w.key(&m, "w").text(info.Worker)
	w.key(&m, "g").text(info.Group)
	w.key(&m, "sw").text(info.Software)
	w.key(&m, "c").uint(uint64(info.Concurrency))
	w.key(&m, "en").array(len(info.Entries))
	for _, entry := range info.Entries {
		if len(entry.Name) > MaxName {
			return out, tooLarge("an entry's name", MaxName)
		}
		w.array(2)
		w.text(entry.Name)
		w.shape(entry.Shape)
	}
	return w.finish(m), nil
}

// Metadata is the same in words, for the micro service.
func (info *Info) Metadata() map[string]string {
	words := map[string]string{
		"nylon.protocol":    strconv.Itoa(Version),
		"nylon.worker":      info.Worker,
		"nylon.group":       info.Group,
		"nylon.version":     info.Software,
		"nylon.concurrency": strconv.Itoa(info.Concurrency),
	}
	for _, entry := range info.Entries {
		words["nylon.entry."+entry.Name] = entry.Shape.words()
	}
	return words
}

// AppendLeave appends the frame that says a worker takes no new sessions.
func AppendLeave(out []byte, worker, group string) []byte {
	w, m := frame(out, KindLeave)
	w.key(&m, "w").text(worker)
	w.key(&m, "g").text(group)
	return w.finish(m)
}

// PhaseName is the phase's name, for the log.
func PhaseName(phase uint8) string { return phaseNames[phase-1] }
