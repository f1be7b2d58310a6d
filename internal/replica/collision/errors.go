package collision

import "errors"

var (
	// ErrMalformed wraps what is wrong with bytes that should be an item or an
	// entry: they are damaged, or were never one.
	ErrMalformed = errors.New("malformed item record")
	// ErrFormat wraps the number of a format that this binary does not know: a
	// newer one wrote it, and a newer one must read it.
	ErrFormat = errors.New("item record of a format from a newer version of antipode")
)
