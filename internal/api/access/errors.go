package access

import "errors"

var (
	// ErrNoKey is returned for the id of no key.
	ErrNoKey = errors.New("no such access key; `antipode key list` shows them")
	// ErrEnded is returned for a key that was revoked or has expired.
	ErrEnded = errors.New("access key is revoked or expired; create a new one")
	// ErrCorrupt wraps what is wrong with a key file.
	ErrCorrupt = errors.New("access key file is damaged")
	// ErrVersion is returned for a key file of another version.
	ErrVersion = errors.New("access key file has an unknown version")
)

// The ways in which a signature can be wrong. Verify returns them inside an *Error.
var (
	// ErrMissing is the sentinel for a request that is not signed.
	ErrMissing = errors.New("request is not signed")
	// ErrIncomplete is the sentinel for an Authorization header that can't be read.
	ErrIncomplete = errors.New("signature is incomplete")
	// ErrUnknownKey is the sentinel for a key id that is not valid here.
	ErrUnknownKey = errors.New("access key is not valid")
	// ErrSignature is the sentinel for a signature that is wrong, out of its time or out of scope.
	ErrSignature = errors.New("signature is not valid")
)

// Error is a refused signature: which kind, and what to tell the client in AWS's words.
type Error struct {
	Kind    error // one of ErrMissing, ErrIncomplete, ErrUnknownKey, ErrSignature
	Message string
}

// Error returns the kind and the message.
func (e *Error) Error() string { return e.Kind.Error() + ": " + e.Message }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

func refuse(kind error, message string) error { return &Error{Kind: kind, Message: message} }
