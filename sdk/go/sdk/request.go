package sdk

import (
	"encoding/json"
	"strings"

	"github.com/AssetsArt/nylon/sdk/go/internal/abi"
)

// Request is the request. Its setters chain and can be used in a RequestFilter only: later the service has been called.
type Request struct{ ctx *phaseContext }

// Method is the method, such as GET.
func (r *Request) Method() string { return r.ctx.text(abi.ReadRequestMethod) }

// Path is the path, percent-encoded.
func (r *Request) Path() string { return r.ctx.text(abi.ReadRequestPath) }

// Query is the query, percent-encoded and without its "?"; empty where there is none.
func (r *Request) Query() string { return r.ctx.text(abi.ReadRequestQuery) }

// URL is scheme, host, path and query.
func (r *Request) URL() string { return r.ctx.text(abi.ReadRequestURL) }

// Params is what the route's path pattern captured, percent-decoded.
func (r *Request) Params() map[string]string {
	params := map[string]string{}
	if text := r.ctx.read(abi.ReadRequestParams, ""); len(text) > 0 {
		if err := json.Unmarshal(text, &params); err != nil {
			panic(err)
		}
	}
	return params
}

// Host is the host, with the port if one was given.
func (r *Request) Host() string { return r.ctx.text(abi.ReadRequestHost) }

// Scheme is http or https.
func (r *Request) Scheme() string { return r.ctx.text(abi.ReadRequestScheme) }

// HTTPVersion is the client's version of HTTP, such as 1.1.
func (r *Request) HTTPVersion() string { return r.ctx.text(abi.ReadRequestHTTPVersion) }

// ClientIP is the connection's address, or the one that a trusted proxy reports.
func (r *Request) ClientIP() string { return r.ctx.text(abi.ReadRequestClientIP) }

// ID is the request's id, 32 hexadecimal digits: the same in the log and in the error that a client sees.
func (r *Request) ID() string { return r.ctx.text(abi.ReadRequestID) }

// Bytes is the size of the body: as read, else as content-length says, else 0.
func (r *Request) Bytes() int64 { return r.ctx.number(abi.ReadRequestBytes) }

// Timestamp is when the request's head was complete, in milliseconds since 1970.
func (r *Request) Timestamp() int64 { return r.ctx.number(abi.ReadRequestTimestamp) }

// Header gives the value of one header, empty where there is none; see Headers.Get. It is cheaper than Headers.
func (r *Request) Header(name string) string {
	return string(r.ctx.read(abi.ReadRequestHeader, strings.ToLower(name)))
}

// Headers gives all headers as they are now.
func (r *Request) Headers() *Headers { return &Headers{r.ctx.fields(abi.ReadRequestHeaders)} }

// Body is the whole body. Without WithBody it is read now, which waits for the client.
func (r *Request) Body() []byte { return r.ctx.read(abi.ReadRequestFullBody, "") }

// RawBody is Body, under the name that older plugins use.
func (r *Request) RawBody() []byte { return r.Body() }

// BodyJSON decodes the body into a value of your own.
func (r *Request) BodyJSON(v any) error { return json.Unmarshal(r.Body(), v) }

// SetMethod replaces the method.
func (r *Request) SetMethod(method string) *Request {
	for i := range len(method) {
		if !isToken(method[i]) {
			invalid("method", method, "a method is a token, such as GET")
		}
	}
	switch method {
	case "":
		invalid("method", method, "a method is a token, such as GET")
	case "CONNECT":
		invalid("method", method, "a gateway does not open tunnels")
	}
	r.ctx.changeRequest(abi.SetRequestMethod, "", []byte(method))
	return r
}

// SetPath replaces the path; it is to be percent-encoded.
func (r *Request) SetPath(path string) *Request {
	if !strings.HasPrefix(path, "/") || !isTargetPart(path, false) {
		invalid("path", path, "a path starts with '/', is percent-encoded ASCII without '?' or '#', at most 32 KiB")
	}
	r.ctx.changeRequest(abi.SetRequestPath, "", []byte(path))
	return r
}

// SetQuery replaces the query; it is to be percent-encoded, and the empty one removes it.
func (r *Request) SetQuery(query string) *Request {
	if !isTargetPart(query, true) {
		invalid("query", query, "a query is percent-encoded ASCII without '#', at most 32 KiB")
	}
	r.ctx.changeRequest(abi.SetRequestQuery, "", []byte(query))
	return r
}

// SetHeader sets a header; all values that it had are replaced.
func (r *Request) SetHeader(name, value string) *Request {
	r.ctx.changeRequest(abi.SetRequestHeader, checkedName(name), checkedValue(value))
	return r
}

// AddHeader adds a line to a header.
func (r *Request) AddHeader(name, value string) *Request {
	r.ctx.changeRequest(abi.AddRequestHeader, checkedName(name), checkedValue(value))
	return r
}

// RemoveHeader removes all values of a header.
func (r *Request) RemoveHeader(name string) *Request {
	r.ctx.changeRequest(abi.RemoveRequestHeader, checkedName(name), nil)
	return r
}

// SetBody replaces the body; content-length follows by itself.
func (r *Request) SetBody(body []byte) *Request {
	r.ctx.changeRequest(abi.SetRequestBody, "", body)
	return r
}

const maxTargetPart = 32 * 1024

// isTargetPart says whether text may stand in a request's target.
func isTargetPart(text string, questionMark bool) bool {
	for i := range len(text) {
		b := text[i]
		if b <= 0x20 || b >= 0x7f || strings.IndexByte("#\"<>\\^`{|}", b) >= 0 || b == '?' && !questionMark {
			return false
		}
	}
	return len(text) <= maxTargetPart
}
