package attr

import "fmt"

// The codes that an Error may have.
const (
	CodeValidation    = "ValidationException"
	CodeSerialization = "SerializationException"
)

// Error is a refusal of a client's data in DynamoDB's words.
type Error struct {
	Code    string // CodeValidation or CodeSerialization
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Invalid makes a ValidationException.
func Invalid(format string, args ...any) *Error {
	return &Error{Code: CodeValidation, Message: fmt.Sprintf(format, args...)}
}

// Unreadable makes a SerializationException: the JSON has the wrong shape.
func Unreadable(format string, args ...any) *Error {
	return &Error{Code: CodeSerialization, Message: fmt.Sprintf(format, args...)}
}
