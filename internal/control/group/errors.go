package group

import "errors"

var (
	// ErrConfig wraps what is wrong with a Config, or doesn't fit what is stored.
	ErrConfig = errors.New("control group is not configured right")
	// ErrNoQuorum is returned by Propose when too few voters can be reached to agree.
	ErrNoQuorum = errors.New("control group has no majority")
	// ErrNoLeader is returned by Propose when a majority is there but has not
	// elected a leader, or answered, in time.
	ErrNoLeader = errors.New("control group has no leader")
	// ErrOutcomeUnknown is returned by Propose when the command may have been
	// applied or refused, and this region did not see which.
	ErrOutcomeUnknown = errors.New("outcome of the command is unknown")
	// ErrNewer wraps an entry or snapshot of the group that this version can't read.
	ErrNewer = errors.New("control group speaks a newer version")
	// ErrTooLarge is returned by Propose for a command over 1 MiB.
	ErrTooLarge = errors.New("command is too large")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("control group is closed")
	// ErrMessage wraps what is wrong with bytes that a peer sent.
	ErrMessage = errors.New("bad message")

	errPanic = errors.New("raft met a contradiction")
)
