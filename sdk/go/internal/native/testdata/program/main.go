// A program that has the library's symbols in it, as a worker built with cgo has, and shuts a socket down from C: the name is
// that of one of the symbols.
package main

// #include <sys/socket.h>
import "C"

import (
	"fmt"
	"syscall"

	"github.com/AssetsArt/nylon/sdk/go/sdk"
)

func main() {
	sdk.NewNylonPlugin().Shutdown(func() { fmt.Println("the plugin was shut down") })
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	if result, err := C.shutdown(C.int(pair[0]), C.SHUT_WR); result != 0 {
		panic(err)
	}
	read, err := syscall.Read(pair[1], make([]byte, 1))
	fmt.Println("read", read, err)
}
