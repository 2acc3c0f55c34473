package entries

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

// spot is where a request's handlers speak to the origin of the tests: its address is in every middleware's payload, and
// each route has a parameter "rest" that a test makes unique.
type spot struct{ origin, key string }

func spotOf(ctx sdk.Context) spot {
	origin, _ := ctx.GetPayload()["origin"].(string)
	return spot{origin, ctx.Request().Params()["rest"]}
}

var client = http.Client{Timeout: 20 * time.Second}

// tell puts what into the origin's journal, under the request's key.
func (s spot) tell(what any) {
	text, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	s.ask(http.MethodPost, "/_journal/", bytes.NewReader(text))
}

// waitAtGate blocks until the test opens the gate named like the request's key.
func (s spot) waitAtGate() { s.ask(http.MethodGet, "/_gate/", nil) }

func (s spot) ask(method, path string, body io.Reader) {
	asked, err := http.NewRequest(method, "http://"+s.origin+path+s.key, body)
	if err != nil {
		panic(err)
	}
	asked.Close = true
	answer, err := client.Do(asked)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		panic(err)
	}
}

func tell(ctx sdk.Context, what any) { spotOf(ctx).tell(what) }

func waitAtGate(ctx sdk.Context) { spotOf(ctx).waitAtGate() }

// payloadText gives a text of the middleware's payload, empty where there is none.
func payloadText(ctx sdk.Context, key string) string {
	text, _ := ctx.GetPayload()[key].(string)
	return text
}

// orNil gives nil for nothing.
func orNil[T comparable](value T) any {
	var nothing T
	if value == nothing {
		return nil
	}
	return value
}
