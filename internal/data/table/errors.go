package table

import "errors"

var (
	// ErrNoTable is returned for a table that is not in the catalog, or that
	// keeps no replica in this region.
	ErrNoTable = errors.New("no such table in this region")
	// ErrUnavailable is returned when the region that has to decide can't be
	// reached in time. Nothing was written; try again.
	ErrUnavailable = errors.New("region out of reach")
	// ErrOutcomeUnknown is returned when a forwarded write was sent and no
	// answer came: it may or may not have been written.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrThrottled is returned when a bound on memory or lag holds writes back.
	ErrThrottled = errors.New("throttled")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("tables are closed")
	// ErrNotHome is returned by Move when the item has no home yet.
	ErrNotHome = errors.New("item has no home")
)
