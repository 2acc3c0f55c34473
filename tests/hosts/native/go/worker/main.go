// The suite's entries on a NATS worker: NATS_SERVERS and NATS_GROUP say where.
package main

import (
	"log"

	"github.com/AssetsArt/nylon/sdk/go/sdk"

	"nylon.test/entries/entries"
)

func main() {
	plugin, err := sdk.NewNatsPlugin("", "", sdk.WithConfig(map[string]any{"greeting": "hello"}))
	if err != nil {
		log.Fatal(err)
	}
	entries.Register(plugin)
	entries.RegisterWorker(plugin)
	if err := plugin.Wait(); err != nil {
		log.Fatal(err)
	}
}
