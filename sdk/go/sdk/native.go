package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
	"github.com/AssetsArt/nylon/sdk/go/internal/native"
)

// NylonPlugin is a plugin in the gateway's process: a shared library, built with -buildmode=c-shared.
type NylonPlugin struct {
	registry
	failure error // why it could not be initialized
}

var (
	thePlugin     *NylonPlugin
	thePluginOnce sync.Once
)

// NewNylonPlugin gives the plugin of this library. There is one: each call returns the same. Call it, and register, in an
// init function, since a library's main never runs.
func NewNylonPlugin() *NylonPlugin {
	thePluginOnce.Do(func() {
		thePlugin = &NylonPlugin{}
		native.Serve(nativeLibrary{thePlugin})
	})
	return thePlugin
}

var _ Plugin = (*NylonPlugin)(nil)

// nativeLibrary is the plugin as the exported symbols see it.
type nativeLibrary struct{ plugin *NylonPlugin }

func (l nativeLibrary) Initialize(config []byte) {
	var values map[string]any
	err := error(nil)
	if len(config) > 0 {
		err = json.Unmarshal(config, &values)
	}
	if err == nil {
		err = l.plugin.load(values)
	}
	if err != nil {
		// The ABI has no way to say why; the gateway's log gets what is written here.
		fmt.Fprintln(os.Stderr, "nylon: the plugin could not be initialized:", err)
	}
	l.plugin.mu.Lock()
	l.plugin.failure = err
	l.plugin.mu.Unlock()
}

type announcement struct {
	Name   string   `json:"name"`
	Phases []string `json:"phases"`
	Body   bool     `json:"body"`
	Stream bool     `json:"stream"`
}

func (l nativeLibrary) Entries() string {
	l.plugin.mu.Lock()
	failure := l.plugin.failure
	l.plugin.mu.Unlock()
	if failure != nil {
		return ""
	}
	list := []announcement{}
	for _, name := range l.plugin.entries() {
		seen, _ := l.plugin.shape(name)
		list = append(list, announcement{name, seen.phases(), seen.wantsBody(), seen.byChunk()})
	}
	text, err := json.Marshal(list)
	if err != nil {
		return ""
	}
	return string(text)
}

func (l nativeLibrary) Open(entry string, gateway native.Gateway) native.Session {
	handlers, there := l.plugin.open(entry, int32(gateway.SID()))
	if !there {
		return nil
	}
	return newNativeSession(handlers, gateway)
}

func (l nativeLibrary) Shutdown() {
	if err := l.plugin.close(); err != nil {
		fmt.Fprintln(os.Stderr, "nylon:", err)
	}
}

// gateway is the way back to it, which is native.Gateway: see there.
type gateway interface {
	Do(method uint32, payload []byte)
	Ask(method uint32, payload, room []byte) (answer []byte, answered bool)
}

// nativeSession is a session of the gateway that has loaded this library.
type nativeSession struct {
	handlers *session
	gateway  gateway

	reading sync.Mutex // the ABI wants one read at a time
	room    [512]byte  // for answers, under reading

	mu       sync.Mutex
	answered sync.Cond
	waiting  uint32 // the read that is outstanding, or 0
	answer   []byte // its answer, once waiting is 0 again
	ended    bool   // the gateway has closed the session
	sent     bool   // the response is over: logging has begun, or the session is closed
	waits    []func()
}

func newNativeSession(handlers *session, gateway gateway) *nativeSession {
	opened := &nativeSession{handlers: handlers, gateway: gateway}
	opened.answered.L = &opened.mu
	return opened
}

// Start runs a phase: in a goroutine of its own, since handlers may wait and this thread must not.
func (s *nativeSession) Start(phase uint8) {
	if phase == abi.Logging {
		// A handler that is still streaming has nobody left to write to.
		s.over(false)
	}
	if s.handlers.inline(phase) {
		s.run(phase, true)
	} else {
		go s.run(phase, false)
	}
}

func (s *nativeSession) run(phase uint8, inline bool) {
	s.handlers.run(phase, &nativeCall{s, inline}, func(result outcome) {
		switch result.method {
		case abi.SetResponseStreamEnd:
		case abi.Fail:
			s.tell(abi.Fail, []byte(result.text))
		default:
			s.tell(result.method, nil)
		}
	})
}

// tell calls back, unless the gateway has given the session up.
func (s *nativeSession) tell(method uint32, payload []byte) bool {
	if s.closed() {
		return false
	}
	s.gateway.Do(method, payload)
	return true
}

func (s *nativeSession) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Answer takes the answer of a read that had to be waited for.
func (s *nativeSession) Answer(method uint32, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == method {
		s.waiting, s.answer = 0, data
		s.answered.Broadcast()
	}
}

// Close wakes whoever waits for an answer.
func (s *nativeSession) Close() {
	s.over(true)
}

// over ends what began before: the response is sent, or the client is gone, or the session is closed.
func (s *nativeSession) over(ended bool) {
	s.mu.Lock()
	s.sent, s.ended = true, s.ended || ended
	waits := s.waits
	s.waits = nil
	s.answered.Broadcast()
	s.mu.Unlock()
	for _, fn := range waits {
		fn()
	}
}

func (s *nativeSession) whenClosed(fn func()) {
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.waits = append(s.waits, fn)
	}
	s.mu.Unlock()
	if ended {
		fn()
	}
}

// nativeCall is one phase of a session, as its context sees it.
type nativeCall struct {
	*nativeSession
	inline bool
}

var errInlineWait = errors.New("an inline handler must not wait for a body: register it WithBody, or without Inline")

func (c *nativeCall) read(method uint32, name string) ([]byte, error) {
	s := c.nativeSession
	s.reading.Lock()
	defer s.reading.Unlock()
	answer, late, err := s.ask(method, name, c.inline)
	switch {
	case err != nil:
		return nil, err
	case len(answer) > 0 && &answer[0] == &s.room[0]:
		return append([]byte(nil), answer...), nil
	case len(answer) == 0 && late:
		return nil, s.whyEmpty(c.inline)
	}
	return answer, nil
}

// whyEmpty tells a body that is empty from one that could not be read: the gateway answers both with nothing, but the
// latter has ended the phase, and then it answers everything so. A handler must not go on as if nobody had sent anything.
func (s *nativeSession) whyEmpty(inline bool) error {
	attempt, _, err := s.ask(abi.ReadAttempt, "", inline)
	if err == nil && len(attempt) == 0 {
		err = &BodyError{Text: "the gateway could not read the body, and the phase has failed: its log says why"}
	}
	return err
}

func (c *nativeCall) fields(method uint32) ([]field, error) {
	s := c.nativeSession
	s.reading.Lock()
	defer s.reading.Unlock()
	answer, _, err := s.ask(method, "", c.inline)
	if err != nil {
		return nil, err
	}
	return decodeFields(answer), nil
}

// ask is called under reading; the answer may be in the room. late says that it had to be waited for.
func (s *nativeSession) ask(method uint32, name string, inline bool) (answer []byte, late bool, err error) {
	s.mu.Lock()
	ended := s.ended
	s.waiting = method
	s.mu.Unlock()
	if ended {
		return nil, false, ErrContextClosed
	}
	if answer, answered := s.gateway.Ask(method, []byte(name), s.room[:]); answered {
		return answer, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.waiting == method && !s.ended {
		if inline {
			s.waiting = 0
			return nil, false, errInlineWait
		}
		s.answered.Wait()
	}
	if s.waiting == method {
		return nil, false, ErrContextClosed
	}
	answer, s.answer = s.answer, nil
	return answer, true, nil
}

func (c *nativeCall) write(method uint32, name string, value []byte) error {
	switch method {
	case abi.SetResponseHeader, abi.AddResponseHeader, abi.SetRequestHeader, abi.AddRequestHeader:
		value = encodeField(name, value)
	case abi.RemoveResponseHeader, abi.RemoveRequestHeader:
		value = []byte(name)
	case abi.SetResponseStreamHeader, abi.SetResponseStreamData, abi.SetResponseStreamEnd:
		s := c.nativeSession
		s.mu.Lock()
		sent := s.sent
		s.mu.Unlock()
		if sent || !s.tell(method, value) {
			return ErrStreamClosed
		}
		return nil
	}
	if !c.tell(method, value) {
		return ErrContextClosed
	}
	return nil
}
