// The suite's entries as a shared library for the gateway's process.
package main

import (
	"nylon.test/entries/entries"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func main() {}

func init() {
	plugin := sdk.NewNylonPlugin()
	entries.Register(plugin)
	entries.RegisterLibrary(plugin)
}
