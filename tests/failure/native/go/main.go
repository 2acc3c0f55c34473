// A plugin for version 1 of the ABI that says which version of itself it is, how often it was asked, and how it is
// configured. Its version comes from -ldflags "-X main.version=…".
package main

/*
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
	uint32_t sid;
	uint8_t phase;
	uint32_t method;
	const uint8_t *ptr;
	uint64_t len;
} message;
typedef void (*callback)(const message *);

static inline void call(callback cb, uint32_t sid, uint32_t method, void *ptr, uint64_t len) {
	message out = {sid, 0, method, ptr, len};
	cb(&out);
}
*/
import "C"

import (
	"fmt"
	"os"
	"sync"
	"unsafe"
)

const (
	phaseRequestFilter = 1
	methodNext         = 1
	methodEnd          = 2
	methodSetBody      = 103
)

var (
	version = "none"

	lock     sync.Mutex
	config   string
	said     int
	sessions = map[C.uint32_t]C.callback{}
)

// note writes down what happens, in the file that the environment names.
func note(what string) {
	file, err := os.OpenFile(os.Getenv("VERSIONED_RECORD"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	fmt.Fprintf(file, "%s %s %s\n", what, version, config)
}

//export initialize
func initialize(text *C.char, length C.int) {
	lock.Lock()
	defer lock.Unlock()
	config = C.GoStringN(text, length)
	note("initialize")
}

//export register_session_stream
func register_session_stream(sid C.uint32_t, entry *C.char, length C.uint32_t, cb C.callback) C.bool {
	lock.Lock()
	defer lock.Unlock()
	if C.GoStringN(entry, C.int(length)) != "say" {
		return false
	}
	sessions[sid] = cb
	return true
}

//export event_stream
func event_stream(in *C.message) {
	sid, phase := in.sid, in.phase
	if phase != 0 {
		go answer(sid, phase)
	}
}

func answer(sid C.uint32_t, phase C.uint8_t) {
	lock.Lock()
	cb, known := sessions[sid]
	text := fmt.Sprintf("%s %d %s", version, said, config)
	if phase == phaseRequestFilter {
		said++
	}
	lock.Unlock()
	if !known {
		return
	}
	if phase != phaseRequestFilter {
		C.call(cb, sid, methodNext, nil, 0)
		return
	}
	body := C.CBytes([]byte(text))
	defer C.free(body)
	C.call(cb, sid, methodSetBody, body, C.uint64_t(len(text)))
	C.call(cb, sid, methodEnd, nil, 0)
}

//export close_session_stream
func close_session_stream(sid C.uint32_t) {
	lock.Lock()
	defer lock.Unlock()
	delete(sessions, sid)
}

//export plugin_free
func plugin_free(payload *C.uint8_t) {
	C.free(unsafe.Pointer(payload))
}

//export shutdown
func shutdown() {
	lock.Lock()
	defer lock.Unlock()
	note("shutdown")
}

func main() {}
