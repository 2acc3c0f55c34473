package entries

import (
	"errors"
	"strconv"
	"sync"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

const piece = 10_000

// written is how much the handlers that never end have written, by key.
var written sync.Map

func streaming(plugin sdk.Plugin) {
	modes := map[string]string{"stream-blocking": "blocking", "stream-awaited": "awaited"}
	for entry, mode := range modes {
		request(plugin, entry, func(ctx *sdk.PhaseRequestFilter) {
			stream := begin(ctx.Response().SetStatus(201).SetHeader("x-mode", mode))
			writePieces(ctx, stream)
		})
	}
	request(plugin, "stream-at-once", func(ctx *sdk.PhaseRequestFilter) {
		stream := begin(ctx.Response())
		write(stream, content(size(ctx)))
		end(stream)
	})
	request(plugin, "stream-small", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Response().SetHeader("content-length", "1").BodyText("what the stream takes the place of")
		stream := begin(ctx.Response())
		write(stream, []byte("caf\u00e9 "))
		write(stream, []byte("au lait"))
		end(stream)
	})
	request(plugin, "stream-at-gate", func(ctx *sdk.PhaseRequestFilter) {
		stream := begin(ctx.Response())
		write(stream, []byte("before"))
		waitAtGate(ctx)
		write(stream, []byte("after"))
		end(stream)
	})
	request(plugin, "stream-raise", func(ctx *sdk.PhaseRequestFilter) {
		write(begin(ctx.Response()), []byte("good"))
		waitAtGate(ctx)
		panic("in the middle")
	})
	request(plugin, "stream-raise-at-once", func(ctx *sdk.PhaseRequestFilter) {
		begin(ctx.Response())
		panic("before the first byte")
	})
	request(plugin, "stream-unended", func(ctx *sdk.PhaseRequestFilter) {
		write(begin(ctx.Response()), []byte("all that there is"))
	})
	request(plugin, "stream-idle", func(ctx *sdk.PhaseRequestFilter) {
		write(begin(ctx.Response()), []byte("good"))
		<-ctx.Context().Done()
	})
	plugin.AddPhaseHandler("stream-misused", streamMisused)
	plugin.AddPhaseHandler("stream-facts", func(phase *sdk.PhaseHandler) {
		from := ""
		phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
			from = "request_filter"
			writePieces(ctx, begin(ctx.Response()))
		})
		phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) { ctx.Response().SetHeader("x-state", from) })
		phase.Logging(func(ctx *sdk.PhaseLogging) {
			response := ctx.Response()
			tell(ctx, []any{response.Status(), response.Bytes(), orNil(response.Error()), from})
		})
	})
	request(plugin, "stream-empty", func(ctx *sdk.PhaseRequestFilter) {
		// Where no body may follow: the first writes say so.
		if status := ctx.Request().Query(); status != "" {
			ctx.Response().SetStatus(uint16(size(ctx)))
		}
		spot := spotOf(ctx)
		err := writeForEver(begin(ctx.Response()), func() {})
		spot.tell(err.Error())
	})
	forEver := func(ctx *sdk.PhaseRequestFilter) {
		spot, count := spotOf(ctx), 0
		err := writeForEver(begin(ctx.Response()), func() {
			count += piece
			written.Store(spot.key, count)
		})
		written.Delete(spot.key)
		if errors.Is(err, sdk.ErrStreamClosed) {
			spot.tell([]any{"StreamClosed", count})
		}
	}
	request(plugin, "stream-for-ever", forEver)
	request(plugin, "stream-for-ever-awaited", forEver)
	request(plugin, "stream-progress", func(ctx *sdk.PhaseRequestFilter) {
		count, there := written.Load(ctx.Request().Params()["rest"])
		if !there {
			count = 0
		}
		ctx.Response().BodyJSON(count)
		ctx.End()
	})
}

func streamInlineLarge(ctx *sdk.PhaseRequestFilter) {
	stream := begin(ctx.Response())
	for range 300 {
		write(stream, make([]byte, piece))
	}
	end(stream)
}

func begin(response *sdk.Response) *sdk.ResponseStream {
	stream, err := response.Stream()
	if err != nil {
		panic(err)
	}
	return stream
}

func write(stream *sdk.ResponseStream, data []byte) {
	if _, err := stream.Write(data); err != nil {
		panic(err)
	}
}

func end(stream *sdk.ResponseStream) {
	if err := stream.End(); err != nil {
		panic(err)
	}
}

// writePieces writes as much as the request's query says, piece by piece.
func writePieces(ctx *sdk.PhaseRequestFilter, stream *sdk.ResponseStream) {
	data := content(size(ctx))
	for len(data) > 0 {
		part := data[:min(piece, len(data))]
		write(stream, part)
		data = data[len(part):]
	}
	end(stream)
}

// writeForEver writes until it can no more, and gives the reason.
func writeForEver(stream *sdk.ResponseStream, count func()) error {
	for {
		count()
		if _, err := stream.Write(make([]byte, piece)); err != nil {
			return err
		}
	}
}

func streamMisused(phase *sdk.PhaseHandler) {
	// The names are those of Python's exceptions.
	nameOf := func(err error) string {
		switch {
		case errors.As(err, new(*sdk.DecisionError)):
			return "DecisionError"
		case errors.As(err, new(*sdk.PhaseError)):
			return "PhaseError"
		case errors.As(err, new(*sdk.BodyError)):
			return "BodyError"
		default:
			return "none of them"
		}
	}
	phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
		spot, stream := spotOf(ctx), begin(ctx.Response())
		refused := []string{}
		refuses := func(action func()) { refused = append(refused, nameOf(panics(action))) }
		refuses(ctx.Next)
		refuses(ctx.End)
		refuses(func() { begin(ctx.Response()) })
		refuses(func() { ctx.Response().SetStatus(500) })
		refuses(func() { ctx.Request().SetBody(nil) })
		write(stream, []byte(strconv.Itoa(ctx.Response().Status())+" "+ctx.Request().Method()))
		end(stream)
		refuses(func() { write(stream, []byte("more")) })
		spot.tell(refused)
	})
	phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
		ctx.Response().SetHeader("x-too-late", nameOf(panics(func() { begin(ctx.Response()) })))
	})
}
