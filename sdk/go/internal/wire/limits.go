package wire

// The limits of a frame and its parts. A frame beyond one of them is malformed, on both sides.
const (
	// MaxFrame is the bytes of a whole frame: the largest max_payload that a NATS server takes.
	MaxFrame = 64 << 20
	// InlineBody is the bytes of a body that travels inside a call or a reply.
	InlineBody = 256 << 10
	// MaxPart is the bytes of one part of a body that travels in parts.
	MaxPart = 128 << 10
	// Window is how many parts of one body are on their way at once.
	Window = 8
	// MaxHeaders is the header fields in one head.
	MaxHeaders = 4096
	// MaxOps is the mutations in a reply.
	MaxOps = 4096
	// MaxEntries is the entries that a worker announces.
	MaxEntries = 1024
	// MaxName is the bytes of a plugin's, an entry's, a worker's or a group's name.
	MaxName = 256
	// MaxMethod is the bytes of a method.
	MaxMethod = 64
	// MaxTarget is the bytes of a path, a query, a host, a header's name, a path parameter.
	MaxTarget = 32 << 10
	// MaxMessage is the bytes of an error's text; a longer one is cut when it is sent.
	MaxMessage = 16 << 10

	maxParams      = 256
	maxState       = 64 << 10
	maxPayload     = 1 << 20
	maxTraceparent = 512
)
