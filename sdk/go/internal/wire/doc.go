// Package wire has the frames of docs/nats-protocol.md: what a gateway and its workers say to each other over NATS.
//
// A frame is one MessagePack map. This package reads those that a worker receives and writes those that it sends, and
// holds both to the same limits; it does no I/O. What it reads are views of the frame's own bytes, which nobody
// changes, so that a header costs no memory of its own; whatever is not known is skipped. The bytes that it writes are those of
// tests/vectors/nats-frames.json.
package wire
