package wire

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

const map16 = 0xde

// writer appends one frame. A map's count is filled in when it is closed, so optional keys need no counting ahead.
type writer struct{ out []byte }

// openMap is a map whose count is not known yet.
type openMap struct {
	at   int
	keys uint16
}

func frame(out []byte, kind Kind) (writer, openMap) {
	w := writer{out: out}
	m := w.open()
	w.key(&m, "t").text(string(kind))
	w.key(&m, "v").uint(Version)
	return w, m
}

// about starts a frame that a worker sends about a call.
func about(out []byte, kind Kind, id CallID, worker string) (writer, openMap) {
	w, m := frame(out, kind)
	w.key(&m, "id").bin(id[:])
	w.key(&m, "w").text(worker)
	return w, m
}

func (w *writer) open() openMap {
	w.out = append(w.out, map16, 0, 0)
	return openMap{at: len(w.out) - 2}
}

func (w *writer) close(m openMap) { binary.BigEndian.PutUint16(w.out[m.at:], m.keys) }

func (w *writer) key(m *openMap, name string) *writer {
	m.keys++
	w.text(name)
	return w
}

func (w *writer) text(text string)  { w.out = msgp.AppendString(w.out, text) }
func (w *writer) bin(data []byte)   { w.out = msgp.AppendBytes(w.out, data) }
func (w *writer) uint(value uint64) { w.out = msgp.AppendUint64(w.out, value) }
func (w *writer) bool(value bool)   { w.out = msgp.AppendBool(w.out, value) }
func (w *writer) array(items int)   { w.out = msgp.AppendArrayHeader(w.out, uint32(items)) }

// octets writes a string of any bytes as a binary.
func (w *writer) octets(value string) {
	w.out = append(msgp.AppendBytesHeader(w.out, uint32(len(value))), value...)
}

func (w *writer) finish(m openMap) []byte {
	w.close(m)
	return w.out
}

func tooLarge(what string, limit int) error {
	return &Malformed{What: what, Why: fmt.Sprintf("it is over its limit of %d", limit)}
}

// shorten cuts a text for people at its limit, never inside a character, and makes it UTF-8.
func shorten(text string) string {
	if len(text) > MaxMessage {
		text = text[:MaxMessage]
		for len(text) > 0 {
			if last, size := utf8.DecodeLastRuneInString(text); last != utf8.RuneError || size > 1 {
				break
			}
			text = text[:len(text)-1]
		}
	}
	if utf8.ValidString(text) {
		return text
	}
	return string([]rune(text))
}
