package entries

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func writing(plugin sdk.Plugin) {
	change := func(entry string, change func(request *sdk.Request)) {
		request(plugin, entry, func(ctx *sdk.PhaseRequestFilter) {
			change(ctx.Request())
			ctx.Next()
		})
	}
	change("write-method", func(request *sdk.Request) { request.SetMethod("PUT") })
	change("write-path", func(request *sdk.Request) { request.SetPath("/elsewhere/a%20b") })
	change("write-query", func(request *sdk.Request) { request.SetQuery("a=1&b=%20") })
	change("remove-query", func(request *sdk.Request) { request.SetQuery("") })
	change("write-headers", writeHeaders)
	change("write-body", func(request *sdk.Request) { request.SetBody([]byte("\x00new\xff")) })
	change("write-body-text", func(request *sdk.Request) { request.SetBody([]byte("caf\u00e9")) })
	change("empty-body", func(request *sdk.Request) { request.SetBody(nil) })
	change("write-framing", func(request *sdk.Request) {
		request.SetHeader("content-length", "1000").SetHeader("transfer-encoding", "chunked").SetHeader("connection", "upgrade")
		request.SetBody([]byte("four"))
	})
	request(plugin, "replace-read-body", func(ctx *sdk.PhaseRequestFilter) {
		request := ctx.Request()
		request.SetBody(reversed(request.Body()))
		request.SetHeader("x-now", string(request.Body()))
		ctx.Next()
	}, sdk.WithBody)
	request(plugin, "refused-writes", refusedWrites)
	request(plugin, "answer", answer)
	request(plugin, "redirect", redirect)
	response(plugin, "write-response", func(ctx *sdk.PhaseResponseFilter) {
		response := ctx.Response().SetStatus(418)
		response.SetHeader("x-set", "new").AddHeader("x-added", "second").RemoveHeader("x-removed")
		response.SetHeader("x-item", fmt.Sprintf("%d,%s", response.Status(), response.Header("x-set")))
	})
	response(plugin, "replace-response-body", func(ctx *sdk.PhaseResponseFilter) { ctx.Response().BodyText("replaced") })
	plugin.AddPhaseHandler("write-too-late", writeTooLate)
}

func writeHeaders(request *sdk.Request) {
	was := request.Header("x-popped")
	request.SetHeader("X-Set", "new").AddHeader("x-added", "second").RemoveHeader("x-removed").RemoveHeader("x-popped")
	request.SetHeader("x-popped-was", was).SetHeader("x-updated", "1").SetHeader("x-latin", "caf\u00e9")
	// A handler reads its own writes.
	_, removed := request.Headers().Lookup("x-removed")
	there := map[bool]string{true: "True", false: "False"}[removed]
	request.SetHeader("x-own-writes", request.Header("x-set")+","+request.Header("x-added")+","+there)
}

func reversed(data []byte) []byte {
	turned := slices.Clone(data)
	slices.Reverse(turned)
	return turned
}

// refusedWrites tries everything that is not legal HTTP, and goes on with nothing changed.
func refusedWrites(ctx *sdk.PhaseRequestFilter) {
	request, response := ctx.Request(), ctx.Response()
	passed := []string{}
	for i, attempt := range []func(){
		func() { request.SetMethod("GET /x HTTP/1.1\r\nx") },
		func() { request.SetMethod("CONNECT") },
		func() { request.SetPath("/x HTTP/1.1\r\nx-injected: 1\r\n") },
		func() { request.SetPath("x") },
		func() { request.SetQuery("a\r\nx-injected: 1") },
		func() { request.SetHeader("x-a", "a\r\nx-injected: 1") },
		func() { request.SetHeader("x-a\r\nx-injected", "1") },
		func() { request.AddHeader("x-a", "a\nb") },
		func() { response.SetHeader("x-a", "a\r\nb") },
		func() { response.AddHeader("x-a", "a\x00b") },
		func() { response.SetHeader("x a", "b") },
		func() { response.SetStatus(99) },
		func() { response.SetStatus(101) },
		func() { response.SetStatus(600) },
		func() { response.Redirect("/x", 200) },
	} {
		if !errors.As(panics(attempt), new(*sdk.InvalidValueError)) {
			passed = append(passed, strconv.Itoa(i))
		}
	}
	request.SetHeader("x-passed", strings.Join(passed, ","))
	ctx.Next()
}

// answer has the body in each of its forms, as the request's query says.
func answer(ctx *sdk.PhaseRequestFilter) {
	response := ctx.Response().SetStatus(201).SetHeader("x-a", "1").AddHeader("x-a", "2").SetHeader("x-b", "1")
	response.RemoveHeader("x-b")
	switch ctx.Request().Query() {
	case "raw":
		response.BodyRaw([]byte("\x00\xff"))
	case "text":
		response.BodyText("caf\u00e9")
	case "html":
		response.BodyHTML("<p>caf\u00e9")
	case "json":
		response.BodyJSON(map[string]any{"a": []any{1, nil, "caf\u00e9"}})
	case "own-type":
		response.SetHeader("content-type", "application/problem+json").BodyJSON(struct{}{})
	case "framing":
		response.SetHeader("transfer-encoding", "chunked").SetHeader("content-length", "9").BodyText("four")
	}
	ctx.End()
}

func redirect(ctx *sdk.PhaseRequestFilter) {
	if query := ctx.Request().Query(); query != "" {
		code, err := strconv.ParseUint(query, 10, 16)
		if err != nil {
			panic(err)
		}
		ctx.Response().Redirect("https://example.com/caf\u00e9?a=b", uint16(code))
	} else {
		ctx.Response().Redirect("/there")
	}
	ctx.End()
}

func writeTooLate(phase *sdk.PhaseHandler) {
	refusals := func(changes ...func()) []string {
		refused := []string{}
		for _, change := range changes {
			if errors.As(panics(change), new(*sdk.PhaseError)) {
				refused = append(refused, "yes")
			}
		}
		return refused
	}
	phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
		request := ctx.Request()
		refused := refusals(
			func() { request.AddHeader("x-a", "1") },
			func() { request.SetBody(nil) },
			func() { request.SetPath("/") },
			func() { // A chunk has no setter here: the compiler refuses it. So this is the other thing with a body.
				if _, err := ctx.Response().Stream(); err != nil {
					panic(err)
				}
			},
		)
		ctx.Response().SetHeader("x-refused", strings.Join(refused, ","))
	})
	phase.Logging(func(ctx *sdk.PhaseLogging) {
		tell(ctx, refusals(
			func() { ctx.Response().SetStatus(500) },
			func() { ctx.Request().RemoveHeader("host") },
		))
	})
}
