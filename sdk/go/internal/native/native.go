// Package native is the C side of a plugin: the symbols that the gateway resolves in a shared library, and the calls back
// into the gateway. It knows the ABI of docs/native-abi.md and nothing of phases' rules.
//
// It is a package of its own so that all else is plain Go, which builds and is tested without cgo. In a program, as opposed
// to a library, nobody calls the symbols.
package native

import "sync"

// Library is what the exported symbols call.
type Library interface {
	// Initialize gets the config's JSON, empty where there is none.
	Initialize(config []byte)
	// Entries announces the entries as JSON; empty where the library could not initialize.
	Entries() string
	// Open begins a session; nil means that there is no such entry.
	Open(entry string, gateway Gateway) Session
	// Shutdown ends the library.
	Shutdown()
}

// Session is one session of the gateway.
type Session interface {
	// Start begins a phase and returns soon: it is called on a thread that serves other requests too.
	Start(phase uint8)
	// Answer brings the answer of a read that was not there when Ask returned. data is a copy.
	Answer(method uint32, data []byte)
	// Close says that the session is over.
	Close()
}

// library is set once, by Serve.
var library Library

// Serve makes l the library behind the exported symbols. It is called before the gateway calls any of them, from an init
// function.
func Serve(l Library) { library = l }

// sessions finds a session by its number. Its parts have a lock each, so that requests on different threads seldom meet.
type sessions struct {
	parts [64]struct {
		sync.RWMutex
		open map[uint32]Session
	}
}

var open sessions

func (s *sessions) add(sid uint32, session Session) {
	part := &s.parts[sid%uint32(len(s.parts))]
	part.Lock()
	defer part.Unlock()
	if part.open == nil {
		part.open = map[uint32]Session{}
	}
	part.open[sid] = session
}

// find gives nil for a session that is not open: an event for it comes too late, which is harmless.
func (s *sessions) find(sid uint32) Session {
	part := &s.parts[sid%uint32(len(s.parts))]
	part.RLock()
	defer part.RUnlock()
	return part.open[sid]
}

func (s *sessions) take(sid uint32) Session {
	part := &s.parts[sid%uint32(len(s.parts))]
	part.Lock()
	defer part.Unlock()
	session := part.open[sid]
	delete(part.open, sid)
	return session
}
