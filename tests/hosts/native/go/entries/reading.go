package entries

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func reading(plugin sdk.Plugin) {
	request(plugin, "read-request", readRequest, sdk.WithBody)
	request(plugin, "read-headers", readHeaders)
	request(plugin, "read-bytes", readBytes)
	request(plugin, "read-json", readJSON, sdk.WithBody)
	request(plugin, "read-body", readBody, sdk.WithBody)
	request(plugin, "read-body-awaited", readBodyAwaited)
	response(plugin, "read-response", readResponse)
	body(plugin, "read-response-body", readResponseBody)
}

func readRequest(ctx *sdk.PhaseRequestFilter) {
	request := ctx.Request()
	query, err := url.ParseQuery(request.Query())
	if err != nil {
		panic(err)
	}
	cookies := map[string]string{}
	if line := request.Header("cookie"); line != "" {
		parsed, err := http.ParseCookie(line)
		if err != nil {
			panic(err)
		}
		for _, cookie := range parsed {
			cookies[cookie.Name] = cookie.Value
		}
	}
	initialized.Lock()
	defer initialized.Unlock()
	ctx.Response().BodyJSON(map[string]any{
		"method":       request.Method(),
		"url":          request.URL(),
		"path":         request.Path(),
		"query":        request.Query(),
		"query_params": query,
		"route_params": request.Params(),
		"host":         request.Host(),
		"scheme":       request.Scheme(),
		"http_version": request.HTTPVersion(),
		"client_ip":    request.ClientIP(),
		"cookies":      cookies,
		"bytes":        request.Bytes(),
		"timestamp":    float64(request.Timestamp()) / 1000,
		"body":         latin1(request.Body()),
		"payload":      ctx.GetPayload(),
		"params":       request.Params(),
		"state":        map[string]any{}, // there is none in Go: closures keep what a session has
		"request_id":   request.ID(),
		"attempt":      ctx.Attempt(),
		"status":       ctx.Response().Status(),
		"initialized":  map[string]any{"times": initialized.times, "config": initialized.config},
	})
	ctx.End()
}

// latin1 is a text with one character for each byte.
func latin1(data []byte) string {
	text := make([]rune, len(data))
	for i, b := range data {
		text[i] = rune(b)
	}
	return string(text)
}

func readHeaders(ctx *sdk.PhaseRequestFilter) {
	headers := ctx.Request().Headers()
	_, isOne := headers.Lookup("X-One")
	_, isMissing := headers.Lookup("x-missing")
	orDefault := func(name string, missing any) any {
		if value, there := headers.Lookup(name); there {
			return value
		}
		return missing
	}
	names, items := []string{}, [][2]string{}
	for _, name := range headers.Names() {
		if strings.HasPrefix(name, "x-") {
			names = append(names, name)
			items = append(items, [2]string{name, headers.Get(name)})
		}
	}
	slices.SortFunc(items, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	ctx.Response().BodyJSON(map[string]any{
		"got":          headers.Get("X-One"),
		"item":         headers.Get("x-ONE"),
		"missing":      orDefault("x-missing", nil),
		"default":      orDefault("x-missing", "none"),
		"missing_item": orDefault("x-missing", "no x-missing"),
		"in":           []bool{isOne, isMissing},
		"joined":       headers.Get("x-many"),
		"names":        names,
		"items":        items,
		"length_fits":  len(headers.Names()) == len(headers.GetAll()),
		"empty":        orDefault("x-empty", nil),
	})
	ctx.End()
}

func readRepeated(ctx *sdk.PhaseRequestFilter) {
	headers := ctx.Request().Headers()
	missing := append([]string{}, headers.Values("x-missing")...)
	ctx.Response().BodyJSON([][]string{headers.Values("X-Many"), missing})
	ctx.End()
}

func readBytes(ctx *sdk.PhaseRequestFilter) {
	value := ctx.Request().Header("x-raw")
	ctx.Request().SetHeader("x-raw-copy", value).SetHeader("x-raw-hex", hex.EncodeToString([]byte(value)))
	ctx.Next()
}

func readJSON(ctx *sdk.PhaseRequestFilter) {
	var body struct{ Numbers []int }
	if err := ctx.Request().BodyJSON(&body); err != nil {
		ctx.Fail(err.Error())
	}
	sum := 0
	for _, number := range body.Numbers {
		sum += number
	}
	ctx.Response().BodyJSON(map[string]int{"sum": sum})
	ctx.End()
}

func digest(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func readBody(ctx *sdk.PhaseRequestFilter) {
	ctx.Request().SetHeader("x-seen", digest(ctx.Request().Body()))
	ctx.Next()
}

func readBodyAwaited(ctx *sdk.PhaseRequestFilter) {
	first, second := ctx.Request().Body(), ctx.Request().RawBody()
	if !slices.Equal(first, second) {
		ctx.Fail("the body changed")
	}
	ctx.Request().SetHeader("x-seen", digest(first))
	ctx.Next()
}

func readResponse(ctx *sdk.PhaseResponseFilter) {
	response := ctx.Response()
	headers := response.HeaderFields()
	seen, err := json.Marshal([]any{
		response.Status(),
		hex.EncodeToString([]byte(response.Header("x-origin"))),
		headers.Values("set-cookie"),
		orNil(headers.Get("x-missing")),
		response.Bytes(),
		orNil(response.Duration()),
		orNil(response.Error()),
		ctx.Request().Method(),
		ctx.Request().Path(),
	})
	if err != nil {
		panic(err)
	}
	response.SetHeader("x-seen", string(seen))
}

func readResponseBodyEarly(ctx *sdk.PhaseResponseFilter) {
	var early *sdk.BodyError
	if err := panics(func() { ctx.Response().ReadBody() }); errors.As(err, &early) {
		ctx.Response().SetHeader("x-refused", early.Error())
	}
}

func readResponseBody(ctx *sdk.PhaseResponseBodyFilter) {
	body := ctx.Response().ReadBody()
	ctx.Response().SetHeader("x-seen", fmt.Sprintf("%d %s %d", len(body), digest(body), ctx.Response().Bytes()))
}
