package worker

import (
	"time"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

const (
	keepReply = 2 * time.Second
	keepID    = 30 * time.Second
	// maxReplies is the bytes of replies that are kept at most.
	maxReplies = 8 << 20
	// maxIDs is the calls that are known at most.
	maxIDs = 1 << 17
	// segmentSize is the bytes of a segment of small replies; a larger reply has one of its own.
	segmentSize = 64 << 10
	// forgetAtOnce is the ids that one tick forgets at most, so that it stays short.
	forgetAtOnce = 1 << 13
)

// knownCalls are those that have run, by their ids, with their replies for a while. A gateway whose reply got lost asks for
// it again, and one that doubts sends the call again: neither may run it twice.
//
// Ids stand in the order in which they ended and replies in segments that go as wholes, so that nothing has a timer; and
// neither holds a pointer for each call, which the garbage collector would have to follow.
type knownCalls struct {
	places map[wire.CallID]place
	ended  ring
	// segments hold the replies in the order in which they were sent; first is the number of the first one.
	segments []segment
	first    uint32
	size     int
	// held: the broker is away, nobody can ask, and so the replies' time does not count.
	held bool
}

type place struct{ segment, start, length uint32 }

type segment struct {
	data   []byte
	newest moment
}

type endedCall struct {
	id   wire.CallID
	when moment
}

// look gives what a call was replied, nil if that is kept no longer, and whether the call is known at all.
func (k *knownCalls) look(id wire.CallID) (reply []byte, known bool) {
	at, known := k.places[id]
	if !known || at.length == 0 {
		return nil, known
	}
	number := at.segment - k.first
	if uint64(number) >= uint64(len(k.segments)) {
		return nil, true
	}
	return k.segments[number].data[at.start : at.start+at.length], true
}

// end notes that a call has run; without a reply there is none to be given again.
func (k *knownCalls) end(id wire.CallID, reply []byte, at moment) {
	if k.places == nil {
		k.places = map[wire.CallID]place{}
	}
	k.places[id] = k.keep(reply, at)
	k.ended.push(endedCall{id, at})
	// One comes, so at most two go: no call pays for many others.
	for range 2 {
		if !k.forgetOldest(at) {
			break
		}
	}
}

func (k *knownCalls) forgetOldest(at moment) bool {
	oldest, there := k.ended.oldest()
	if !there || k.ended.length <= maxIDs && at.since(oldest.when) <= keepID {
		return false
	}
	delete(k.places, oldest.id)
	k.ended.pop()
	return true
}

// expire forgets what is old enough.
func (k *knownCalls) expire(at moment) {
	k.dropOld(at)
	for range forgetAtOnce {
		if !k.forgetOldest(at) {
			break
		}
	}
}

// hold stops the replies' time while the broker is away, and lets it begin anew.
func (k *knownCalls) hold(held bool, at moment) {
	if k.held && !held {
		for i := range k.segments {
			k.segments[i].newest = at
		}
	}
	k.held = held
}

func (k *knownCalls) keep(reply []byte, at moment) place {
	if len(reply) == 0 || len(reply) > maxReplies {
		return place{}
	}
	if n := len(k.segments); n == 0 || len(k.segments[n-1].data)+len(reply) > cap(k.segments[n-1].data) {
		size := max(len(reply), segmentSize)
		k.dropOld(at)
		for k.size+size > maxReplies {
			k.dropFirst()
		}
		k.size += size
		k.segments = append(k.segments, segment{data: make([]byte, 0, size)})
	}
	last := &k.segments[len(k.segments)-1]
	start := len(last.data)
	last.data = append(last.data, reply...)
	last.newest = at
	return place{k.first + uint32(len(k.segments)) - 1, uint32(start), uint32(len(reply))}
}

func (k *knownCalls) dropOld(at moment) {
	for !k.held && len(k.segments) > 0 && at.since(k.segments[0].newest) > keepReply {
		k.dropFirst()
	}
}

func (k *knownCalls) dropFirst() {
	k.size -= cap(k.segments[0].data)
	k.segments[0] = segment{}
	k.segments = k.segments[1:]
	k.first++
}

// ring is a queue that grows to its largest length and then allocates no more.
type ring struct {
	items        []endedCall
	head, length int
}

func (r *ring) push(item endedCall) {
	if r.length == len(r.items) {
		grown := make([]endedCall, max(1024, 2*len(r.items)))
		n := copy(grown, r.items[r.head:])
		copy(grown[n:], r.items[:r.head])
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.length)%len(r.items)] = item
	r.length++
}

func (r *ring) oldest() (endedCall, bool) {
	if r.length == 0 {
		return endedCall{}, false
	}
	return r.items[r.head], true
}

func (r *ring) pop() {
	r.head = (r.head + 1) % len(r.items)
	r.length--
}
