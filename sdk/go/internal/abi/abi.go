// Package abi has the numbers of Nylon's C ABI: phases and methods, as docs/native-abi.md lists them. They also name what
// the SDK asks of a host that speaks something else, so that there is one vocabulary for all of them.
package abi

// Version of the ABI that this SDK is built for.
const Version = 2

// Phases of an exchange.
const (
	None               uint8 = 0
	RequestFilter      uint8 = 1
	ResponseFilter     uint8 = 2
	ResponseBodyFilter uint8 = 3
	Logging            uint8 = 4
)

// PhaseNames has the words of configuration, log and announcements, by number.
var PhaseNames = [...]string{"", "request_filter", "response_filter", "response_body_filter", "logging"}

// Methods that decide.
const (
	Next       uint32 = 1
	End        uint32 = 2
	GetPayload uint32 = 3
	Fail       uint32 = 4
)

// Methods on the response.
const (
	SetResponseHeader       uint32 = 100
	RemoveResponseHeader    uint32 = 101
	SetResponseStatus       uint32 = 102
	SetResponseFullBody     uint32 = 103
	SetResponseStreamData   uint32 = 104
	SetResponseStreamEnd    uint32 = 105
	SetResponseStreamHeader uint32 = 106
	ReadResponseFullBody    uint32 = 107
	ReadResponseStatus      uint32 = 108
	ReadResponseBytes       uint32 = 109
	ReadResponseHeaders     uint32 = 110
	ReadResponseDuration    uint32 = 111
	ReadResponseError       uint32 = 112
	AddResponseHeader       uint32 = 113
	ReadResponseHeader      uint32 = 114
	ReadResponseChunk       uint32 = 115
	SetResponseChunk        uint32 = 116
)

// Methods on the request.
const (
	ReadRequestFullBody    uint32 = 200
	ReadRequestHeader      uint32 = 201
	ReadRequestHeaders     uint32 = 202
	ReadRequestURL         uint32 = 203
	ReadRequestPath        uint32 = 204
	ReadRequestQuery       uint32 = 205
	ReadRequestParams      uint32 = 206
	ReadRequestHost        uint32 = 207
	ReadRequestClientIP    uint32 = 208
	ReadRequestMethod      uint32 = 209
	ReadRequestBytes       uint32 = 210
	ReadRequestTimestamp   uint32 = 211
	ReadRequestID          uint32 = 212
	ReadRequestScheme      uint32 = 213
	ReadRequestHTTPVersion uint32 = 214
	ReadAttempt            uint32 = 215
	SetRequestMethod       uint32 = 220
	SetRequestPath         uint32 = 221
	SetRequestQuery        uint32 = 222
	SetRequestHeader       uint32 = 223
	AddRequestHeader       uint32 = 224
	RemoveRequestHeader    uint32 = 225
	SetRequestBody         uint32 = 226
)

// WebSocketUpgrade and its like are not available yet.
const WebSocketUpgrade uint32 = 300
