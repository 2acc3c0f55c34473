package wire

// Outgoing is a body on its way out in parts.
type Outgoing struct {
	rest          []byte
	total         uint64
	next, granted uint64
	size          int
}

// NewOutgoing cuts body into parts that fit into a message of maxPayload bytes. The first one may go unasked.
func NewOutgoing(body []byte, maxPayload int) *Outgoing {
	return &Outgoing{rest: body, total: uint64(len(body)), granted: 1, size: PartSize(maxPayload)}
}

// PartSize is the bytes of a part: half of a message leaves enough for whatever stands beside it.
func PartSize(maxPayload int) int { return max(min(MaxPart, maxPayload/2), 1) }

// Grant gives room for parts below up. More than a window is not believed.
func (o *Outgoing) Grant(up uint64) { o.granted = Room(o.granted, o.next, up) }

// Room is how far a sender may go that was granted so far and has sent next, where the receiver says up.
func Room(granted, next, up uint64) uint64 { return max(granted, min(up, next+Window)) }

// Done tells whether all parts are cut off.
func (o *Outgoing) Done() bool { return len(o.rest) == 0 }

// Next is the next part that there is room for.
func (o *Outgoing) Next() (Part, bool) {
	if o.Done() || o.next >= o.granted {
		return Part{}, false
	}
	size := min(o.size, len(o.rest))
	part := Part{Number: o.next, Total: o.total, Data: o.rest[:size]}
	o.rest = o.rest[size:]
	o.next++
	return part, true
}

// Incoming is a body on its way in. Whatever is wrong with one part ends the transfer: nothing is used by half.
type Incoming struct {
	data          []byte
	total         uint64
	next, granted uint64
}

// NewIncoming is a transfer whose sender may send a window of parts at once.
func NewIncoming() *Incoming { return &Incoming{granted: Window} }

// Take takes the next part; true when the body is complete.
func (in *Incoming) Take(part Part) (bool, error) {
	why := ""
	size := uint64(len(in.data) + len(part.Data))
	switch {
	case part.Number != in.next:
		why = "one before it is missing, or it came twice"
	case part.Number >= in.granted:
		why = "there was no room for it"
	case in.next > 0 && in.total != part.Total:
		why = "it announces another size than the one before it"
	case len(part.Data) == 0 || size > part.Total:
		why = "it is empty, or larger than what was left of the body"
	}
	if why != "" {
		return false, &Malformed{What: "a part of a body", Why: why}
	}
	in.total = part.Total
	in.data = append(in.data, part.Data...)
	in.next++
	return size == part.Total, nil
}

// Room is how far the sender may go now, where that is news: told when half of the window is used up.
func (in *Incoming) Room() (uint64, bool) {
	if in.granted-in.next > Window/2 {
		return 0, false
	}
	in.granted = in.next + Window
	return in.granted, true
}

// Body is what has come.
func (in *Incoming) Body() []byte { return in.data }
