package sdk

import (
	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// ResponseStream is the body of a response that its handler writes bit by bit. It is an io.WriteCloser.
type ResponseStream struct{ ctx *phaseContext }

// Stream sends the head as it is now and lets a RequestFilter write the body: it is an End whose body follows. After it the
// context can be read and not changed. A handler that panics, or returns without End on the stream, cuts the connection, so
// that a truncated body never looks complete.
func (r *Response) Stream() (*ResponseStream, error) {
	c := r.ctx
	if c.phase != abi.RequestFilter {
		why := "the service has answered already; a ResponseBodyFilter with ByChunk uses SetChunk"
		return nil, &PhaseError{What: "streaming a response", Phase: abi.PhaseNames[c.phase], Why: why}
	}
	if err := c.tryDecide(abi.SetResponseStreamHeader); err != nil {
		return nil, err
	}
	if err := c.host.write(abi.SetResponseStreamHeader, "", nil); err != nil {
		return nil, c.left(err)
	}
	return &ResponseStream{c}, nil
}

// Write sends a part of the body and returns once there is room for more: a handler is never far ahead of its client.
// ErrStreamClosed means that nobody takes any more.
func (s *ResponseStream) Write(data []byte) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if len(data) == 0 {
		return 0, nil
	}
	if err := s.ctx.host.write(abi.SetResponseStreamData, "", data); err != nil {
		return 0, s.ctx.left(err)
	}
	return len(data), nil
}

// WriteString is Write for a string.
func (s *ResponseStream) WriteString(text string) (int, error) { return s.Write([]byte(text)) }

// End completes the body. A second one does nothing.
func (s *ResponseStream) End() error {
	s.ctx.mu.Lock()
	ended := s.ctx.streamEnded
	s.ctx.mu.Unlock()
	if ended {
		return nil
	}
	if err := s.usable(); err != nil {
		return err
	}
	s.ctx.mu.Lock()
	s.ctx.streamEnded = true
	s.ctx.mu.Unlock()
	return s.ctx.left(s.ctx.host.write(abi.SetResponseStreamEnd, "", nil))
}

// Close is End, for what wants an io.Closer. Do not defer it: a handler that panics would then send a truncated body as a
// complete one.
func (s *ResponseStream) Close() error { return s.End() }

func (s *ResponseStream) usable() error {
	s.ctx.mu.Lock()
	defer s.ctx.mu.Unlock()
	switch {
	case s.ctx.streamGone:
		return ErrStreamClosed
	case s.ctx.closed:
		return ErrContextClosed
	case s.ctx.streamEnded:
		return &BodyError{Text: "the stream has been ended: nothing can be written to it any more"}
	default:
		return nil
	}
}

// left remembers that nobody takes any more.
func (c *phaseContext) left(err error) error {
	if err == ErrStreamClosed {
		c.mu.Lock()
		c.streamGone = true
		c.mu.Unlock()
	}
	return err
}
