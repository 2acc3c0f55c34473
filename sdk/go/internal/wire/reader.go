package wire

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"

	"github.com/tinylib/msgp/msgp"
)

// Malformed is why a frame was refused. Its text goes to the log of whoever sent it.
type Malformed struct {
	// What is the part that was read.
	What string
	// Why is the rule that it breaks.
	Why string
}

func (m *Malformed) Error() string { return m.What + " is not valid: " + m.Why }

// reader takes one value after the other. The first error stays, and everything after it reads as zero, so that only
// the end of a section has to look.
type reader struct {
	rest []byte
	err  error
	// done ends the reading of a map: enough is known.
	done bool
}

func (r *reader) fail(what, why string) {
	if r.err == nil {
		r.err = &Malformed{What: what, Why: why}
	}
	r.rest = nil
}

// took goes on behind a value, or keeps what msgp says is wrong with it.
func (r *reader) took(rest []byte, err error, what, want string) bool {
	switch {
	case r.err != nil:
		return false
	case errors.Is(err, msgp.ErrShortBytes):
		r.fail(what, "the frame ends in the middle of it")
	case err != nil:
		r.fail(what, "it is not "+want)
	default:
		r.rest = rest
	}
	return err == nil
}

func (r *reader) kind() msgp.Type {
	if r.err != nil || len(r.rest) == 0 {
		return msgp.InvalidType
	}
	return msgp.NextType(r.rest)
}

func (r *reader) uint(what string) uint64 {
	value, rest, err := msgp.ReadUint64Bytes(r.rest)
	if !r.took(rest, err, what, "an unsigned integer") {
		return 0
	}
	return value
}

func (r *reader) uint32(what string) uint32 {
	value := r.uint(what)
	if value > math.MaxUint32 {
		r.fail(what, "the number is too large")
		return 0
	}
	return uint32(value)
}

func (r *reader) bool(what string) bool {
	value, rest, err := msgp.ReadBoolBytes(r.rest)
	return r.took(rest, err, what, "a boolean") && value
}

// bytes is the content of a string or a binary of at most limit bytes.
func (r *reader) bytes(what string, limit int) []byte {
	if head, size := r.short(); head > 0 && size <= limit {
		value := r.rest[head : head+size : head+size]
		r.rest = r.rest[head+size:]
		return value
	}
	var value, rest []byte
	var err error
	if r.kind() == msgp.StrType {
		value, rest, err = msgp.ReadStringZC(r.rest)
	} else {
		value, rest, err = msgp.ReadBytesZC(r.rest)
	}
	if !r.took(rest, err, what, "a string or a binary") {
		return nil
	}
	if len(value) > limit {
		r.fail(what, fmt.Sprintf("it is over its limit of %d", limit))
		return nil
	}
	return value
}

// short is the size of a string or a binary that is short, and of what stands before it: nearly all names and values are. Zeroes
// where the next value is anything else, or not all there.
func (r *reader) short() (head, size int) {
	if len(r.rest) < 2 {
		return 0, 0
	}
	switch first := r.rest[0]; {
	case first >= 0xa0 && first <= 0xbf:
		head, size = 1, int(first&0x1f)
	case first == 0xc4 || first == 0xd9:
		head, size = 2, int(r.rest[1])
	default:
		return 0, 0
	}
	if len(r.rest) < head+size {
		return 0, 0
	}
	return head, size
}

// octets is the same as a string of any bytes.
func (r *reader) octets(what string, limit int) string { return view(r.bytes(what, limit)) }

// text is the same, and UTF-8.
func (r *reader) text(what string, limit int) string {
	value := r.octets(what, limit)
	if !utf8.ValidString(value) {
		r.fail(what, "it is not UTF-8")
		return ""
	}
	return value
}

func (r *reader) exactly(what string, into []byte) {
	value := r.bytes(what, len(into))
	if len(value) != len(into) {
		r.fail(what, fmt.Sprintf("it is not %d bytes long", len(into)))
		return
	}
	copy(into, value)
}

// array is the number of items that follow, at most limit. It is believed only if the bytes for so many can be there.
func (r *reader) array(what string, limit int) int {
	count, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	if !r.took(rest, err, what, "an array") {
		return 0
	}
	if uint64(count) > uint64(len(rest)) {
		r.fail(what, "the frame ends in the middle of it")
		return 0
	}
	if uint64(count) > uint64(limit) {
		r.fail(what, fmt.Sprintf("it is over its limit of %d", limit))
		return 0
	}
	return int(count)
}

// fields hands each key of a map to field, which answers false for one that it does not know.
func (r *reader) fields(what string, field func(key string) bool) {
	count, rest, err := msgp.ReadMapHeaderBytes(r.rest)
	if !r.took(rest, err, what, "a map") {
		return
	}
	for ; count > 0 && r.err == nil && !r.done; count-- {
		if !field(r.key()) {
			r.skip()
		}
	}
}

// key is the next key; one of another type than text is no key of ours.
func (r *reader) key() string {
	if len(r.rest) > 0 && r.rest[0] >= 0xa0 && r.rest[0] <= 0xbf || r.kind() == msgp.StrType {
		return r.octets("a key", MaxFrame)
	}
	r.skip()
	return ""
}

// skip passes over one value, whatever it is, and returns its bytes.
func (r *reader) skip() []byte {
	start := r.rest
	rest, err := msgp.Skip(r.rest)
	if !r.took(rest, err, "a value", "MessagePack") {
		return nil
	}
	return start[: len(start)-len(rest) : len(start)-len(rest)]
}

func (r *reader) finish() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("the frame", fmt.Sprintf("%d bytes follow its end", len(r.rest)))
	}
	return r.err
}

// view is a string over bytes of a frame.
func view(part []byte) string {
	// SAFETY: a frame belongs to its message alone, and nobody writes to it: the string never changes.
	return unsafe.String(unsafe.SliceData(part), len(part))
}
