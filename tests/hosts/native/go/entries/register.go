// Package entries has the suite's entries in Go: each does what the entry of its name in tests/hosts/entries does. One
// source for both hosts of the language, the gateway's process and a worker; what can be done in one of them only is told
// apart here, and tests/hosts/unexpressed.py says why.
package entries

import (
	"sync"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

// initialized is what the plugin's initialize has seen.
var initialized struct {
	sync.Mutex
	times  int
	config map[string]any
}

// Register registers what works on every host.
func Register(plugin sdk.Plugin) {
	plugin.Initialize(func(config map[string]any) {
		initialized.Lock()
		defer initialized.Unlock()
		initialized.times++
		initialized.config = config
	})
	reading(plugin)
	writing(plugin)
	deciding(plugin)
	failing(plugin)
	bodies(plugin)
	sessions(plugin)
	waiting(plugin)
	streaming(plugin)
}

// RegisterLibrary registers what works in the gateway's process only.
func RegisterLibrary(plugin sdk.Plugin) {
	request(plugin, "stream-inline-large", streamInlineLarge, sdk.Inline)
}

// RegisterWorker registers what works on a worker only.
func RegisterWorker(plugin sdk.Plugin) {
	request(plugin, "read-repeated", readRepeated)
	response(plugin, "read-response-body-early", readResponseBodyEarly)
}

// request registers an entry that has a RequestFilter only.
func request(plugin sdk.Plugin, entry string, handler func(ctx *sdk.PhaseRequestFilter), options ...sdk.Option) {
	plugin.AddPhaseHandler(entry, func(phase *sdk.PhaseHandler) { phase.RequestFilter(handler, options...) })
}

// response registers an entry that has a ResponseFilter only.
func response(plugin sdk.Plugin, entry string, handler func(ctx *sdk.PhaseResponseFilter)) {
	plugin.AddPhaseHandler(entry, func(phase *sdk.PhaseHandler) { phase.ResponseFilter(handler) })
}

// body registers an entry that has a ResponseBodyFilter only.
func body(plugin sdk.Plugin, entry string, handler func(ctx *sdk.PhaseResponseBodyFilter), options ...sdk.Option) {
	plugin.AddPhaseHandler(entry, func(phase *sdk.PhaseHandler) { phase.ResponseBodyFilter(handler, options...) })
}

// panics tells what fn panics with, as an error; nil where it does not.
func panics(fn func()) (reason error) {
	defer func() {
		if caught := recover(); caught != nil {
			reason = caught.(error)
		}
	}()
	fn()
	return nil
}
