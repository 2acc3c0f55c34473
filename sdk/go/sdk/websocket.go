package sdk

import "errors"

// ErrWebSocket is what an upgrade answers: WebSockets are not available in plugins yet.
var ErrWebSocket = errors.New("plugins cannot upgrade to a WebSocket yet")

// WebSocketCallbacks are what a plugin would hear of a WebSocket. They are here so that plugins that have them build.
type WebSocketCallbacks struct {
	OnOpen          func(ws *WebSocketConn)
	OnMessageText   func(ws *WebSocketConn, text string)
	OnMessageBinary func(ws *WebSocketConn, data []byte)
	OnClose         func(ws *WebSocketConn)
	OnError         func(ws *WebSocketConn, text string)
}

// WebSocketConn is a WebSocket.
type WebSocketConn struct{}

// WebSocketUpgrade answers ErrWebSocket: not available yet. The handler decides what else to do with the request.
func (p *PhaseRequestFilter) WebSocketUpgrade(WebSocketCallbacks) error { return ErrWebSocket }

// SendText answers ErrWebSocket.
func (*WebSocketConn) SendText(string) error { return ErrWebSocket }

// SendBinary answers ErrWebSocket.
func (*WebSocketConn) SendBinary([]byte) error { return ErrWebSocket }

// Close answers ErrWebSocket.
func (*WebSocketConn) Close() error { return ErrWebSocket }

// JoinRoom answers ErrWebSocket.
func (*WebSocketConn) JoinRoom(string) error { return ErrWebSocket }

// LeaveRoom answers ErrWebSocket.
func (*WebSocketConn) LeaveRoom(string) error { return ErrWebSocket }

// BroadcastText answers ErrWebSocket.
func (*WebSocketConn) BroadcastText(room, text string) error { return ErrWebSocket }

// BroadcastBinary answers ErrWebSocket.
func (*WebSocketConn) BroadcastBinary(room string, data []byte) error { return ErrWebSocket }
