package entries

import (
	"bytes"
	"strconv"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func bodies(plugin sdk.Plugin) {
	body(plugin, "whole", func(ctx *sdk.PhaseResponseBodyFilter) {
		response := ctx.Response()
		response.BodyRaw(append(upper(response.ReadBody()), '!')).SetHeader("x-whole", "1")
	})
	body(plugin, "whole-untouched", func(ctx *sdk.PhaseResponseBodyFilter) { ctx.Response().ReadBody() })
	body(plugin, "whole-emptied", func(ctx *sdk.PhaseResponseBodyFilter) { ctx.Response().BodyRaw(nil) })
	body(plugin, "by-chunk", func(ctx *sdk.PhaseResponseBodyFilter) {
		data, last := ctx.Chunk()
		data = upper(data)
		if last {
			data = append(data, '!')
		}
		ctx.SetChunk(data)
	}, sdk.ByChunk)
	plugin.AddPhaseHandler("by-chunk-counting", func(phase *sdk.PhaseHandler) {
		chunks := []int{}
		phase.ResponseBodyFilter(func(ctx *sdk.PhaseResponseBodyFilter) {
			data, last := ctx.Chunk()
			chunks = append(chunks, len(data))
			if last {
				tell(ctx, chunks)
			}
		}, sdk.ByChunk)
	})
	body(plugin, "by-chunk-raise", func(ctx *sdk.PhaseResponseBodyFilter) {
		if data, _ := ctx.Chunk(); bytes.Contains(data, []byte("bad")) {
			panic("a bad chunk")
		}
	}, sdk.ByChunk)
	body(plugin, "by-chunk-swallow", func(ctx *sdk.PhaseResponseBodyFilter) { ctx.SetChunk(nil) }, sdk.ByChunk)
	response(plugin, "touch", func(ctx *sdk.PhaseResponseFilter) { ctx.Response().SetHeader("x-touched", "1") })

	mirror := func(ctx *sdk.PhaseRequestFilter) {
		ctx.Request().SetBody(reversed(ctx.Request().Body()))
		ctx.Next()
	}
	request(plugin, "mirror-body", mirror, sdk.WithBody)
	request(plugin, "mirror-body-awaited", mirror)
	request(plugin, "answer-content", func(ctx *sdk.PhaseRequestFilter) {
		ctx.Response().BodyRaw(content(size(ctx)))
		ctx.End()
	})
	response(plugin, "digest-answer", func(ctx *sdk.PhaseResponseFilter) {
		ctx.Response().SetHeader("x-seen", digest(ctx.Response().ReadBody()))
	})
	body(plugin, "mirror-answer", func(ctx *sdk.PhaseResponseBodyFilter) {
		ctx.Response().BodyRaw(reversed(ctx.Response().ReadBody()))
	})
	body(plugin, "last-chunk-content", func(ctx *sdk.PhaseResponseBodyFilter) {
		var data []byte
		if _, last := ctx.Chunk(); last {
			data = content(size(ctx))
		}
		ctx.SetChunk(data)
	}, sdk.ByChunk)
}

// upper turns ASCII into upper case and leaves every other byte as it is, as Python's bytes.upper does.
func upper(data []byte) []byte {
	turned := bytes.Clone(data)
	for i, b := range turned {
		if 'a' <= b && b <= 'z' {
			turned[i] = b - 'a' + 'A'
		}
	}
	return turned
}

// size is the number that is the request's query.
func size(ctx sdk.Context) int {
	number, err := strconv.Atoi(ctx.Request().Query())
	if err != nil {
		panic(err)
	}
	return number
}

// content gives bytes that are nowhere like their neighbours: the formula of tests/hosts/entries/bodies.py.
func content(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		j := size + i
		data[i] = byte(j%251 ^ j%241 ^ j%239)
	}
	return data
}
