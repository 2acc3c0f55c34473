// Package worker serves a plugin's handlers over NATS, as docs/nats-protocol.md says.
//
// Messages come from one channel to one goroutine (receive.go), which answers at once what it can: copies, probes, calls
// that there is no room for. A call that may run gets a goroutine of its own (call.go), which claims it, fetches its
// body, runs the handler and sends the reply; whatever the gateway says to it meanwhile reaches it over a channel of its own. A
// ticker gives up handlers that are late and notices when the process stood still (watch.go). Everything that is
// kept is bounded: calls by the concurrency, replies and ids by size and age, sessions by number and age.
//
// The package knows nothing of contexts: a Plugin opens sessions and runs handlers, which read and write through their Call.
package worker
