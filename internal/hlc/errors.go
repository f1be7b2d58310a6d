package hlc

import "errors"

var (
	// ErrAhead is returned by Check while this clock is too far ahead of its
	// peers. The caller refuses local writes; trying again later is right.
	ErrAhead = errors.New("clock ahead of its peers")
	// ErrFuture is returned by Update for a stamp that is far ahead of this
	// clock. It is a report; the stamp was taken over.
	ErrFuture = errors.New("stamp from the future")
	// ErrClosed is returned once Close was called.
	ErrClosed = errors.New("clock is closed")
)
