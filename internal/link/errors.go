package link

import (
	"context"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

var (
	// ErrUnreachable is what every UnreachableError matches with errors.Is.
	ErrUnreachable = errors.New("region can't be reached")
	// ErrNoHandler is matched by the RemoteError of a call whose method the peer
	// does not serve: it is still starting, or runs another version. The call had
	// no effect.
	ErrNoHandler = errors.New("peer does not serve this method")
	// ErrUnknownPeer is returned for a region that is not among Config.Peers.
	ErrUnknownPeer = errors.New("no such peer")
	// ErrNotTrusted is matched when a peer's certificate is not covered by the
	// roots that this region trusts.
	ErrNotTrusted = identity.ErrNotTrusted
	// ErrNotEmulated is returned by SetDelay, SetBandwidth, Cut and Heal on a mesh
	// that was opened without Config.Emulation.
	ErrNotEmulated = errors.New("links are not emulated; start the region with a wide-area emulation to shape or cut them")
	// ErrClosed is returned once the mesh is closed.
	ErrClosed = errors.New("links are closed")
	// ErrTooLarge is returned for a message above Config.MaxMessage.
	ErrTooLarge = errors.New("message is too large")
	// ErrJoinRefused is matched by the error of a Join that the other region turned down.
	ErrJoinRefused = errors.New("join was refused")
)

// UnreachableError says which region could not be reached. It matches
// ErrUnreachable, and what Err matches.
type UnreachableError struct {
	Region antipode.Region
	// Sent is true when the request may have reached the peer before the
	// connection was lost, so that its outcome is unknown. With false the peer
	// has not seen it.
	Sent bool
	Err  error // why; never nil
}

// Error names the region, whether the outcome is known, and the cause.
func (e *UnreachableError) Error() string {
	if e.Sent {
		return fmt.Sprintf("connection to region %s was lost before its answer, outcome unknown: %v", e.Region, e.Err)
	}
	return fmt.Sprintf("region %s can't be reached: %v", e.Region, e.Err)
}

// Is reports whether target is ErrUnreachable.
func (e *UnreachableError) Is(target error) bool { return target == ErrUnreachable }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// The codes of a RemoteError that the mesh itself gives.
const (
	CodeNoHandler = "no-handler" // the method is not served; matches ErrNoHandler
	CodeDeadline  = "deadline"   // the caller's deadline passed while the handler ran; matches context.DeadlineExceeded
)

// RemoteError is an error that the peer's handler returned. A handler chooses
// the Code by returning a *RemoteError, wrapped or not; the other fields are
// filled in on the calling side.
type RemoteError struct {
	Region antipode.Region // who answered
	Method string
	Code   string // for programs; empty unless the handler set it
	Text   string // for people
}

// Error gives region, method and text.
func (e *RemoteError) Error() string {
	if e.Region == "" {
		return e.Text
	}
	return fmt.Sprintf("region %s answered %s: %s", e.Region, e.Method, e.Text)
}

// Is reports whether the code stands for target.
func (e *RemoteError) Is(target error) bool {
	switch e.Code {
	case CodeNoHandler:
		return target == ErrNoHandler
	case CodeDeadline:
		return target == context.DeadlineExceeded
	}
	return false
}
