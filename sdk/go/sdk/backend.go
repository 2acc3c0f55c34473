package sdk

// backend is where a session's calls go: the gateway that has loaded this library, or the NATS connection of a worker. The
// contexts that handlers see are written against it and know nothing else of where they run.
//
// Methods are the numbers of the C ABI (internal/abi), which are the SDK's vocabulary on every host. A backend checks
// neither phases nor values: the contexts have done so. It may be called from several goroutines of one handler.
type backend interface {
	// read answers a reading method. name is the header's, in lower case, where the method asks for one. What comes back
	// belongs to the caller; it is empty where there is nothing.
	//
	// Numbers come as decimal text and a chunk with a byte in front that is 1 for the last one, as in the ABI. A body may
	// have to be waited for.
	read(method uint32, name string) ([]byte, error)

	// fields answers ReadRequestHeaders or ReadResponseHeaders: names in lower case, in order, with duplicates where the
	// host has them.
	fields(method uint32) ([]field, error)

	// write makes a mutation, or a part of a streamed response. name is the header's in lower case, else empty; value is
	// the header's value, the text or the body. A status is two bytes, big-endian. The value may be used only during the
	// call.
	//
	// SetResponseStreamHeader, SetResponseStreamData and SetResponseStreamEnd take effect at once. The second blocks while
	// the client does not take the bytes, and its error is ErrStreamClosed where nobody takes any more. All other mutations
	// count when the handler has returned with a decision, which a backend is told with the outcome of run.
	write(method uint32, name string, value []byte) error

	// closed says whether the host has given the call up, as after a time-out or when the client is gone.
	closed() bool

	// whenClosed has fn called once when that happens; at once where it has happened already.
	whenClosed(fn func())
}

// field is one header line.
type field struct {
	name, value string
}

// outcome is what one phase of a session came to. A backend passes it on, as its host wants it.
type outcome struct {
	// method is abi.Next, abi.End, abi.Fail, or abi.SetResponseStreamEnd where the handler has streamed the response to its
	// end or the client is gone, so that nothing more is to be said.
	method uint32
	// kind is why it failed: "raised", "undecided", or what the error of the backend says.
	kind string
	// text is for the log, with the stack of a panic.
	text string
}
