// A native plugin in Go: it lets webhooks through whose body carries the right signature, and nothing else.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log"
	"strings"
	"sync/atomic"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

// settings is the plugin's config in nylon.yaml.
type settings struct {
	Secrets map[string]string // sender → secret
}

// config is replaced when a reload brings another one, while requests go on.
var config atomic.Pointer[settings]

func main() {} // never runs: the gateway loads this as a library

func init() {
	plugin := sdk.NewNylonPlugin()
	plugin.Initialize(sdk.NewInitializer(func(given settings) {
		if len(given.Secrets) == 0 {
			panic("config.secrets is missing: without it nobody could send") // the gateway does not start
		}
		config.Store(&given)
	}))
	plugin.AddPhaseHandler("signed", signed)
}

// signed runs once per request: what it keeps in variables is that request's own.
func signed(phase *sdk.PhaseHandler) {
	sender := "nobody"

	phase.RequestFilter(func(ctx *sdk.PhaseRequestFilter) {
		request := ctx.Request()
		claimed := request.Header("x-sender")
		secret, known := config.Load().Secrets[claimed]
		if !known || !valid(request.Header("x-signature"), request.Body(), secret) {
			ctx.Response().SetStatus(401).BodyJSON(map[string]string{"error": "bad signature"})
			ctx.End()
			return
		}
		sender = claimed
		request.SetHeader("x-verified-sender", sender).RemoveHeader("x-signature")
		ctx.Next()
	}, sdk.WithBody) // the gateway reads the body before it calls this

	phase.ResponseFilter(func(ctx *sdk.PhaseResponseFilter) {
		ctx.Response().SetHeader("x-sender", sender)
	})

	phase.Logging(func(ctx *sdk.PhaseLogging) {
		log.Println(ctx.Response().Status(), ctx.Request().Path(), "from", sender)
	})
}

// valid compares in constant time.
func valid(signature string, body []byte, secret string) bool {
	given, err := hex.DecodeString(strings.TrimPrefix(signature, "sha256="))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(given, mac.Sum(nil))
}
