package sdk

import (
	"errors"
	"fmt"
)

// What a handler asked its context for is not possible. A method that returns an error returns these; one that does not,
// such as a setter that chains, panics with them, which ends the handler's own call and nothing else: the client gets a
// 500, the log the stack.
var (
	// ErrContextClosed means that a context was used after its phase, or after its time-out.
	ErrContextClosed = errors.New("this context is closed: its phase is over, or its time was")
	// ErrStreamClosed means that nobody takes any more of a response that is being streamed: the client is gone, or nothing
	// may follow its head. A handler that returns for this reason has not failed.
	ErrStreamClosed = errors.New("nobody reads the response any more")
)

// DecisionError is a second Next or End.
type DecisionError struct {
	// First is the decision that stands: next, end or stream.
	First string
}

func (e *DecisionError) Error() string {
	return fmt.Sprintf("this handler has already decided %s: the first decision wins, so return after Next or End"+
		" (a stream is an end)", e.First)
}

// PhaseError is something that is not possible in this phase.
type PhaseError struct {
	// What was tried.
	What string
	// Phase is the phase's name.
	Phase string
	// Why is the rule.
	Why string
}

func (e *PhaseError) Error() string {
	return fmt.Sprintf("%s is not possible in %s: %s", e.What, e.Phase, e.Why)
}

// InvalidValueError is a value that is not legal HTTP.
type InvalidValueError struct {
	// What it was to be.
	What string
	// Value is the offending text, shortened.
	Value string
	// Why is the rule.
	Why string
}

func (e *InvalidValueError) Error() string {
	return fmt.Sprintf("%s %q is not valid: %s", e.What, e.Value, e.Why)
}

// BodyError is a body that is not there, too large, or that the client did not deliver.
type BodyError struct {
	// Kind is the word for it on the wire, such as body_too_large; empty where the handler asked at the wrong time.
	Kind string
	// Text says what happened.
	Text string
}

func (e *BodyError) Error() string { return e.Text }
