package worker

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/AssetsArt/nylon/sdk/go/internal/wire"
)

// A worker is a NATS micro service (ADR-32), so that `nats micro` sees it and a gateway can ask who is there. The answers are made
// here because the library's own service has an id of its own and would take the calls for itself; the types are the library's.

var serviceTypes = map[string]string{
	"PING": micro.PingResponseType, "INFO": micro.InfoResponseType, "STATS": micro.StatsResponseType,
}

func (w *Worker) subscribeService() error {
	for verb := range serviceTypes {
		base := "$SRV." + verb
		for _, subject := range []string{base, base + "." + w.subjects.Service, base + "." + w.subjects.Service + "." + w.ID} {
			subscription, err := w.conn.Subscribe(subject, w.answerService)
			if err != nil {
				return err
			}
			w.service = append(w.service, subscription)
		}
	}
	return nil
}

func (w *Worker) answerService(message *nats.Msg) {
	verb := strings.SplitN(message.Subject, ".", 3)[1]
	text, err := json.Marshal(w.describe(verb))
	if err == nil {
		err = w.send(message.Reply, text)
	}
	if err != nil {
		w.log.Warn("a question about the service could not be answered", "subject", message.Subject, "error", err)
	}
}

func (w *Worker) describe(verb string) any {
	info := w.info()
	identity := micro.ServiceIdentity{
		Name: w.subjects.Service, ID: w.ID, Version: w.Software, Metadata: info.Metadata(),
	}
	switch verb {
	case "INFO":
		return micro.Info{
			ServiceIdentity: identity,
			Type:            serviceTypes[verb],
			Description:     "Nylon worker",
			Endpoints: []micro.EndpointInfo{
				{Name: "call", Subject: w.subjects.Call, QueueGroup: w.Group, Metadata: map[string]string{}},
			},
		}
	case "STATS":
		return micro.Stats{
			ServiceIdentity: identity, Type: serviceTypes[verb], Started: w.started.UTC(),
			Endpoints: []*micro.EndpointStats{w.stats()},
		}
	}
	return micro.Ping{ServiceIdentity: identity, Type: serviceTypes[verb]}
}

func (w *Worker) stats() *micro.EndpointStats {
	c := &w.counters
	calls, spent := c.calls.Load(), time.Duration(c.nanoseconds.Load())
	numbers := c.all()
	w.mu.Lock()
	numbers["in_flight"], numbers["sessions"] = uint64(w.slots), uint64(len(w.sessions.open))
	w.mu.Unlock()
	data, _ := json.Marshal(numbers) // a map of numbers can be written
	stats := &micro.EndpointStats{
		Name: "call", Subject: w.subjects.Call, QueueGroup: w.Group,
		NumRequests: int(calls), NumErrors: int(c.failed.Load()),
		ProcessingTime: spent, AverageProcessingTime: spent / time.Duration(max(calls, 1)),
		Data: data,
	}
	if text := c.lastError.Load(); text != nil {
		stats.LastError = *text
	}
	return stats
}

// info is what the worker says of itself.
func (w *Worker) info() *wire.Info {
	info := &wire.Info{Worker: w.ID, Group: w.Group, Software: w.Software, Concurrency: w.Concurrency}
	for _, name := range w.names() {
		w.mu.Lock()
		info.Entries = append(info.Entries, wire.Entry{Name: name, Shape: w.entries[name]})
		w.mu.Unlock()
	}
	return info
}

func (w *Worker) announce() error {
	return w.publish(w.subjects.Announce, w.info().Append)
}
