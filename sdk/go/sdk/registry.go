package sdk

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// Plugin is what NewNylonPlugin and NewNatsPlugin have in common, so that one function can register the handlers of both.
type Plugin interface {
	// AddPhaseHandler registers an entry by its setup function. It runs once when the plugin is loaded, to learn which phases
	// there are, and once per session, where its closures belong to that session: one request × one middleware. It has to
	// register the same phases each time.
	AddPhaseHandler(entry string, setup func(phase *PhaseHandler))
	// Initialize registers a function that gets the plugin's config, before the first request; a panic in it stops the
	// start.
	Initialize(fn func(config map[string]any))
	// Shutdown registers a function that runs after the last request.
	Shutdown(fn func())
}

// NewInitializer makes a function for Initialize that gets the config in a type of its own.
func NewInitializer[T any](fn func(config T)) func(map[string]any) {
	return func(raw map[string]any) {
		var config T
		text, err := json.Marshal(raw)
		if err == nil {
			err = json.Unmarshal(text, &config)
		}
		if err != nil {
			panic(fmt.Errorf("the plugin's config does not fit %T: %w", config, err))
		}
		fn(config)
	}
}

// Option is a wish of a handler, given where it is registered.
type Option uint8

const (
	// WithBody has the gateway read the request body before a RequestFilter is called, so that the time which the client takes
	// does not count against the handler's, and an inline handler can have it.
	WithBody Option = 1 << iota
	// ByChunk calls a ResponseBodyFilter for each part of the body as it comes, instead of once with the whole.
	ByChunk
	// Inline runs the handler on the gateway's own thread, which serves other requests too: for trusted handlers that never
	// wait. It saves the hand-over to a goroutine. On a worker it changes nothing.
	Inline
)

// PhaseHandler is what a setup function registers its handlers with: one per session.
type PhaseHandler struct {
	// SessionId tells sessions apart in a log. It is 0 where the setup function runs to be recorded.
	SessionId int32

	handlers [len(abi.PhaseNames)]func(*phaseContext)
	options  [len(abi.PhaseNames)]Option
}

// RequestFilter registers the handler that runs before the service is called. It has to decide with Next or End.
func (p *PhaseHandler) RequestFilter(handler func(ctx *PhaseRequestFilter), options ...Option) {
	p.register(abi.RequestFilter, handler != nil, WithBody|Inline, options, func(ctx *phaseContext) {
		handler(&PhaseRequestFilter{ctx})
	})
}

// ResponseFilter registers the handler that runs when the response's head is there.
func (p *PhaseHandler) ResponseFilter(handler func(ctx *PhaseResponseFilter), options ...Option) {
	p.register(abi.ResponseFilter, handler != nil, Inline, options, func(ctx *phaseContext) {
		handler(&PhaseResponseFilter{ctx})
	})
}

// ResponseBodyFilter registers the handler that runs when the response's body is there, or with ByChunk for each part.
func (p *PhaseHandler) ResponseBodyFilter(handler func(ctx *PhaseResponseBodyFilter), options ...Option) {
	p.register(abi.ResponseBodyFilter, handler != nil, ByChunk|Inline, options, func(ctx *phaseContext) {
		handler(&PhaseResponseBodyFilter{ctx})
	})
}

// Logging registers the handler that runs after the last byte.
func (p *PhaseHandler) Logging(handler func(ctx *PhaseLogging), options ...Option) {
	p.register(abi.Logging, handler != nil, Inline, options, func(ctx *phaseContext) {
		handler(&PhaseLogging{ctx})
	})
}

func (p *PhaseHandler) register(phase uint8, present bool, allowed Option, options []Option, call func(*phaseContext)) {
	name := abi.PhaseNames[phase]
	if !present {
		panic(fmt.Errorf("the handler of %s is nil", name))
	}
	if p.handlers[phase] != nil {
		panic(fmt.Errorf("%s is registered twice", name))
	}
	var all Option
	for _, option := range options {
		all |= option
	}
	if all&^allowed != 0 {
		panic(fmt.Errorf("%s does not take the option %s", name, all&^allowed))
	}
	p.handlers[phase], p.options[phase] = call, all
}

func (o Option) String() string {
	var names []string
	for i, name := range []string{"WithBody", "ByChunk", "Inline"} {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// shape is which phases an entry has and what they want, as announced to the gateway.
type shape struct {
	handles [len(abi.PhaseNames)]bool
	options [len(abi.PhaseNames)]Option
}

func (p *PhaseHandler) shape() shape {
	seen := shape{options: p.options}
	for phase, handler := range p.handlers {
		seen.handles[phase] = handler != nil
	}
	return seen
}

// phases gives the names of the phases.
func (s shape) phases() []string {
	names := []string{}
	for phase, handled := range s.handles {
		if handled {
			names = append(names, abi.PhaseNames[phase])
		}
	}
	return names
}

func (s shape) wantsBody() bool { return s.options[abi.RequestFilter]&WithBody != 0 }

func (s shape) byChunk() bool { return s.options[abi.ResponseBodyFilter]&ByChunk != 0 }

// registry has what a plugin registered. Both kinds of plugin embed it.
type registry struct {
	mu         sync.Mutex
	setups     map[string]func(*PhaseHandler)
	shapes     map[string]shape
	initialize []func(map[string]any)
	shutdown   []func()
	// grows: entries may come after load.
	grows bool
}

// AddPhaseHandler registers an entry by its setup function; see Plugin.
func (r *registry) AddPhaseHandler(entry string, setup func(phase *PhaseHandler)) {
	if !r.add(entry, setup) {
		return
	}
	recorded, err := record(entry, setup)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shapes[entry] = recorded
}

// add takes an entry, and tells whether it came after the others were recorded.
func (r *registry) add(entry string, setup func(phase *PhaseHandler)) (late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if setup == nil {
		panic(fmt.Errorf("the setup function of entry %q is nil", entry))
	}
	if r.shapes != nil && !r.grows {
		panic(fmt.Errorf("entry %q comes too late: entries are registered before the plugin runs", entry))
	}
	if r.setups == nil {
		r.setups = map[string]func(*PhaseHandler){}
	}
	if _, there := r.setups[entry]; there {
		panic(fmt.Errorf("entry %q is registered twice", entry))
	}
	r.setups[entry] = setup
	return r.shapes != nil
}

// record runs a setup function to learn which phases there are.
func record(entry string, setup func(phase *PhaseHandler)) (shape, error) {
	recorder := &PhaseHandler{}
	err := guarded(fmt.Sprintf("the setup function of entry %q", entry), func() { setup(recorder) })
	return recorder.shape(), err
}

// Initialize registers a function that gets the plugin's config; see Plugin.
func (r *registry) Initialize(fn func(config map[string]any)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.initialize = append(r.initialize, fn)
}

// Shutdown registers a function that runs after the last request; see Plugin.
func (r *registry) Shutdown(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shutdown = append(r.shutdown, fn)
}

// load runs the functions of Initialize with the config, and then every setup function against a recorder. From then on
// no entry can be added, unless the registry grows. It may be called again with another config.
func (r *registry) load(config map[string]any) error {
	r.mu.Lock()
	initialize := slices.Clone(r.initialize)
	r.mu.Unlock()
	for _, fn := range initialize {
		if err := guarded("initialize", func() { fn(config) }); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shapes != nil {
		return nil
	}
	shapes := map[string]shape{}
	for len(shapes) < len(r.setups) {
		setups := maps.Clone(r.setups) // entries may be added meanwhile
		r.mu.Unlock()
		for name, setup := range setups {
			if _, there := shapes[name]; there {
				continue
			}
			recorded, err := record(name, setup)
			if err != nil {
				r.mu.Lock()
				return err
			}
			shapes[name] = recorded
		}
		r.mu.Lock()
	}
	r.shapes = shapes
	return nil
}

// entries gives the names of what load has recorded, sorted.
func (r *registry) entries() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.shapes))
}

// shape gives what load has recorded of an entry.
func (r *registry) shape(entry string) (shape, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, there := r.shapes[entry]
	return seen, there
}

// open begins a session of an entry: its setup function runs. False means that there is no such entry. A setup function
// that panics, or registers something else than it did when it was recorded, makes a session all of whose phases fail.
func (r *registry) open(entry string, id int32) (*session, bool) {
	r.mu.Lock()
	setup, there := r.setups[entry]
	recorded, loaded := r.shapes[entry]
	r.mu.Unlock()
	if !there || !loaded {
		return nil, false
	}
	phases := &PhaseHandler{SessionId: id}
	opened := &session{phases: phases}
	what := fmt.Sprintf("the setup function of entry %q", entry)
	opened.broken = guarded(what, func() { setup(phases) })
	if opened.broken == nil && phases.shape() != recorded {
		opened.broken = fmt.Errorf("%s has to register the same phases each time: it registered %v when the plugin was loaded"+
			" and %v now", what, recorded.phases(), phases.shape().phases())
	}
	return opened, true
}

// close runs the functions of Shutdown, the last one first.
func (r *registry) close() error {
	r.mu.Lock()
	shutdown := slices.Clone(r.shutdown)
	r.mu.Unlock()
	var first error
	for i := len(shutdown) - 1; i >= 0; i-- {
		if err := guarded("shutdown", shutdown[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}
