package wire

import (
	"bytes"
	"testing"
)

func content(size int) []byte {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i % 251)
	}
	return body
}

func TestABodyArrivesAsItWasAndNeverMoreThanAWindowIsOnItsWay(t *testing.T) {
	for _, size := range []int{1, MaxPart - 1, MaxPart, MaxPart + 1, 3 << 20} {
		for _, maxPayload := range []int{1 << 20, 4096} {
			outgoing, incoming := NewOutgoing(content(size), maxPayload), NewIncoming()
			for done := false; !done; {
				way := 0
				for part, more := outgoing.Next(); more; part, more = outgoing.Next() {
					var err error
					done, err = incoming.Take(part)
					fatal(t, err)
					way++
				}
				if way > Window {
					t.Fatalf("%d parts were on their way", way)
				}
				if way == 0 {
					t.Fatal("nothing moves")
				}
				if up, news := incoming.Room(); news {
					outgoing.Grant(up)
				} else {
					outgoing.Grant(incoming.granted)
				}
			}
			if !outgoing.Done() || !bytes.Equal(incoming.Body(), content(size)) {
				t.Errorf("a body of %d bytes did not arrive as it was", size)
			}
		}
	}
}

func TestASenderDoesNotBelieveMoreRoomThanAWindow(t *testing.T) {
	outgoing := NewOutgoing(content(64*MaxPart), 1<<20)
	outgoing.Grant(1 << 60)
	sent := 0
	for _, more := outgoing.Next(); more; _, more = outgoing.Next() {
		sent++
	}
	if sent != Window {
		t.Errorf("%d parts went", sent)
	}
}

func TestWhateverIsWrongWithOnePartEndsTheTransfer(t *testing.T) {
	part := func(number, total uint64, size int) Part { return Part{number, total, content(size)} }
	refused := func(parts ...Part) bool {
		incoming := NewIncoming()
		for _, part := range parts {
			if _, err := incoming.Take(part); err != nil {
				return true
			}
		}
		return false
	}
	beyond := []Part{}
	for number := range uint64(Window + 1) {
		beyond = append(beyond, part(number, 1000, 1))
	}
	for name, parts := range map[string][]Part{
		"a gap":                        {part(1, 20, 10)},
		"twice":                        {part(0, 20, 10), part(0, 20, 10)},
		"beyond what was announced":    {part(0, 20, 10), part(1, 20, 11)},
		"another size":                 {part(0, 20, 10), part(1, 21, 10)},
		"nothing":                      {part(0, 20, 10), part(1, 20, 0)},
		"more than there was room for": beyond,
	} {
		if !refused(parts...) {
			t.Errorf("%s: it is taken", name)
		}
	}
	if refused(part(0, 20, 10), part(1, 20, 10)) {
		t.Error("good parts are refused")
	}
}
