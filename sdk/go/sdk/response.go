package sdk

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// Response is the response: a draft in a RequestFilter, which End sends and Next drops, and later the one that is on its
// way to the client. Its setters chain.
type Response struct{ ctx *phaseContext }

// Status is the status.
func (r *Response) Status() int { return int(r.ctx.number(abi.ReadResponseStatus)) }

// Header gives the value of one header, empty where there is none; see Headers.Get. It is cheaper than Headers.
func (r *Response) Header(name string) string {
	return string(r.ctx.read(abi.ReadResponseHeader, strings.ToLower(name)))
}

// Headers gives all headers as they are now: names in lower case with what Header gives for them.
func (r *Response) Headers() map[string]string { return r.HeaderFields().GetAll() }

// HeaderFields gives all headers as they are now, also where one occurs more than once.
func (r *Response) HeaderFields() *Headers { return &Headers{r.ctx.fields(abi.ReadResponseHeaders)} }

// Bytes is the size of the body: in Logging what was sent, before that as known, 0 where it is not.
func (r *Response) Bytes() int64 { return r.ctx.number(abi.ReadResponseBytes) }

// Duration is, in Logging, how many milliseconds the exchange took from the request's head to the last byte.
func (r *Response) Duration() int64 { return r.ctx.number(abi.ReadResponseDuration) }

// Error is, in Logging, why the exchange failed; empty where it did not.
func (r *Response) Error() string { return r.ctx.text(abi.ReadResponseError) }

// ReadBody is the whole body in a ResponseBodyFilter, and anywhere else the one that a handler has set.
func (r *Response) ReadBody() []byte { return r.ctx.read(abi.ReadResponseFullBody, "") }

// SetStatus sets the status, 200 to 599.
func (r *Response) SetStatus(status uint16) *Response {
	r.ctx.setStatus(status)
	return r
}

// SetHeader sets a header; all values that it had are replaced.
func (r *Response) SetHeader(name, value string) *Response {
	r.setHeader(abi.SetResponseHeader, checkedName(name), checkedValue(value))
	return r
}

// AddHeader adds a line to a header.
func (r *Response) AddHeader(name, value string) *Response {
	r.setHeader(abi.AddResponseHeader, checkedName(name), checkedValue(value))
	return r
}

func (r *Response) setHeader(method uint32, name string, value []byte) {
	r.ctx.changeResponse(method, name, value)
	if name == "content-type" {
		r.ctx.mu.Lock()
		r.ctx.typed = true
		r.ctx.mu.Unlock()
	}
}

// RemoveHeader removes all values of a header.
func (r *Response) RemoveHeader(name string) *Response {
	r.ctx.changeResponse(abi.RemoveResponseHeader, checkedName(name), nil)
	return r
}

// BodyRaw sets the body as it is; content-length follows by itself.
func (r *Response) BodyRaw(body []byte) *Response {
	r.ctx.changeResponse(abi.SetResponseFullBody, "", body)
	return r
}

// BodyText sets the body and its content type, unless the handler has set a content-type itself.
func (r *Response) BodyText(text string) *Response {
	return r.body("text/plain; charset=utf-8", []byte(text))
}

// BodyHTML is BodyText for HTML.
func (r *Response) BodyHTML(text string) *Response {
	return r.body("text/html; charset=utf-8", []byte(text))
}

// BodyJSON is BodyText for a value that is encoded as JSON. One that cannot be panics.
func (r *Response) BodyJSON(value any) *Response {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Errorf("the body cannot be encoded as JSON: %w", err))
	}
	return r.body("application/json", text)
}

func (r *Response) body(contentType string, body []byte) *Response {
	r.ctx.mu.Lock()
	typed := r.ctx.typed
	r.ctx.mu.Unlock()
	if !typed {
		r.ctx.changeResponse(abi.SetResponseHeader, "content-type", []byte(contentType))
	}
	return r.BodyRaw(body)
}

// Redirect sets location and status: 302, or the code given, which is 301, 302, 303, 307 or 308. What a URL cannot hold is
// percent-encoded.
func (r *Response) Redirect(url string, code ...uint16) *Response {
	status := uint16(302)
	if len(code) > 0 {
		status = code[0]
	}
	switch status {
	case 301, 302, 303, 307, 308:
	default:
		invalid("redirect code", strconv.Itoa(int(status)), "use 301, 302, 303, 307 or 308")
	}
	r.SetHeader("location", quoted(url))
	return r.SetStatus(status)
}

// quoted percent-encodes what may not stand in a URL; what is encoded already stays.
func quoted(url string) string {
	var text strings.Builder
	for i := range len(url) {
		b := url[i]
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', strings.IndexByte("/:?#[]@!$&'()*+,;=%-._~", b) >= 0:
			text.WriteByte(b)
		default:
			fmt.Fprintf(&text, "%%%02X", b)
		}
	}
	return text.String()
}
