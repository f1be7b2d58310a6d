package operator

import (
	"errors"
	"fmt"
	"net/http"
)

// What a Backend wraps to choose how a call is answered. Any other error is the
// server's own fault: it is told with its text, and logged.
var (
	// ErrInvalid is for a request that makes no sense.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound is for a table, item, key or region that is not there.
	ErrNotFound = errors.New("not found")
	// ErrConflict is for what can't be done as things are, such as cutting a link
	// that is not emulated.
	ErrConflict = errors.New("not possible here")
	// ErrUnavailable is for what may work later.
	ErrUnavailable = errors.New("not available now")
)

var (
	// ErrToken is matched by the error of a call whose token was refused.
	ErrToken = errors.New("operator token refused")
	// ErrUnreachable is matched when no answer came from the region.
	ErrUnreachable = errors.New("region does not answer")
	// ErrNoTLS is returned by Serve for a listener that other machines can reach.
	ErrNoTLS = errors.New("operator port can be reached from other machines and has no certificate")
)

// Error is the answer of a region that did not do what it was asked.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error gives the message.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the region answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}

// Is makes errors.Is see the sentinel that the code stands for.
func (e *Error) Is(target error) bool {
	for _, k := range kinds() {
		if k.code == e.Code {
			return target == k.err
		}
	}
	return false
}

type errorKind struct {
	err    error
	code   string
	status int
}

// kinds says how each sentinel travels.
func kinds() []errorKind {
	return []errorKind{
		{ErrToken, "unauthorized", http.StatusUnauthorized},
		{ErrInvalid, "invalid", http.StatusBadRequest},
		{ErrNotFound, "not-found", http.StatusNotFound},
		{ErrConflict, "conflict", http.StatusConflict},
		{ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	}
}

const codeInternal = "internal"

// describe turns an error into an answer.
func describe(err error) *Error {
	var e *Error
	if errors.As(err, &e) && e.Status != 0 {
		return e
	}
	for _, k := range kinds() {
		if errors.Is(err, k.err) {
			return &Error{Status: k.status, Code: k.code, Message: err.Error()}
		}
	}
	return &Error{Status: http.StatusInternalServerError, Code: codeInternal, Message: err.Error()}
}
