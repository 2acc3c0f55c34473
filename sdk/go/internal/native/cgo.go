//go:build cgo

package native

// #include <stdlib.h>
// #include "exports.h"
import "C"

import (
	"unsafe"
)

// Gateway is the way back to the gateway, for one session.
type Gateway struct {
	sid      C.uint32_t
	callback C.nylon_callback
}

// SID is the session's number.
func (g Gateway) SID() uint32 { return uint32(g.sid) }

// Do calls back without waiting for an answer. The gateway copies the payload during the call.
func (g Gateway) Do(method uint32, payload []byte) {
	C.nylon_do(g.callback, g.sid, C.uint32_t(method), pointer(payload), C.uint64_t(len(payload)))
}

// Ask calls back with a read. answered is false where the answer comes later, to Session.Answer. room is where an answer
// is put that fits there; what comes back may be a part of it.
func (g Gateway) Ask(method uint32, payload, room []byte) (answer []byte, answered bool) {
	got := C.nylon_ask(g.callback, g.sid, C.uint32_t(method), pointer(payload), C.uint64_t(len(payload)),
		pointer(room), C.uint64_t(len(room)))
	if !bool(got.answered) {
		return nil, false
	}
	if got.spilled == nil {
		return room[:got.len], true
	}
	defer C.free(unsafe.Pointer(got.spilled))
	return copied(unsafe.Pointer(got.spilled), got.len), true
}

func pointer(data []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(data)))
}

// copied copies memory of the gateway's, which is valid only during a call.
func copied(data unsafe.Pointer, length C.uint64_t) []byte {
	if data == nil || length == 0 {
		return nil
	}
	return append([]byte(nil), unsafe.Slice((*byte)(data), uint64(length))...)
}

//export nylonGoInitialize
func nylonGoInitialize(config unsafe.Pointer, length C.int) {
	if library != nil {
		library.Initialize(copied(config, C.uint64_t(max(length, 0))))
	}
}

// announced is what nylon_entries returned last. It stays valid until shutdown.
var announced *C.char

//export nylonGoEntries
func nylonGoEntries() *C.char {
	C.free(unsafe.Pointer(announced))
	announced = nil
	if library != nil {
		if entries := library.Entries(); entries != "" {
			announced = C.CString(entries)
		}
	}
	return announced
}

//export nylonGoOpen
func nylonGoOpen(sid C.uint32_t, entry unsafe.Pointer, length C.uint32_t, callback C.nylon_callback) C.bool {
	if library == nil || callback == nil {
		return false
	}
	session := library.Open(string(copied(entry, C.uint64_t(length))), Gateway{sid, callback})
	if session == nil {
		return false
	}
	open.add(uint32(sid), session)
	return true
}

//export nylonGoEvent
func nylonGoEvent(sid C.uint32_t, phase C.uint8_t, method C.uint32_t, data unsafe.Pointer, length C.uint64_t) {
	session := open.find(uint32(sid))
	switch {
	case session == nil:
	case phase != 0:
		session.Start(uint8(phase))
	default:
		session.Answer(uint32(method), copied(data, length))
	}
}

//export nylonGoClose
func nylonGoClose(sid C.uint32_t) {
	if session := open.take(uint32(sid)); session != nil {
		session.Close()
	}
}

//export nylonGoShutdown
func nylonGoShutdown() {
	if library != nil {
		library.Shutdown()
	}
}
