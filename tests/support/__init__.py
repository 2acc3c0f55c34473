"""What tests over real sockets need: an origin that can misbehave, a client that hides nothing, ways to wait."""
