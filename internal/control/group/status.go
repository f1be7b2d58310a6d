package group

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/antipode-io/antipode"
)

// Status is where a voter stands.
type Status struct {
	Self      antipode.Region
	Leader    antipode.Region // empty when none is known
	Term      uint64
	Commit    uint64 // index up to which entries are agreed on, as far as known here
	Applied   uint64 // index up to which they are in State
	Joined    bool   // it votes; a voter that has lost its disk catches up first
	Voters    []antipode.Region
	Reachable []antipode.Region // Self included
	Err       error             // why the voter has stopped for good
}

// Status returns where the voter stands.
func (c *Core) Status() Status {
	st := c.node.BasicStatus()
	s := Status{
		Self: c.cfg.Self, Leader: c.names[st.Lead], Term: st.GetTerm(), Commit: st.GetCommit(),
		Applied: c.applied, Joined: c.meta.Joined, Voters: c.cfg.Voters, Err: c.err,
	}
	for _, v := range c.cfg.Voters {
		if v == c.cfg.Self || c.reachable(c.peers[v]) {
			s.Reachable = append(s.Reachable, v)
		}
	}
	return s
}

// unanswered says why a proposal got no answer.
func (s Status) unanswered() error {
	switch {
	case s.Err != nil:
		return s.Err
	case len(s.Reachable) <= len(s.Voters)/2:
		return fmt.Errorf("%w: reachable %d of %d (%s); what is agreed stays in force, changes wait until %d of %s are reachable again",
			ErrNoQuorum, len(s.Reachable), len(s.Voters), list(s.Reachable), len(s.Voters)/2+1, list(s.Voters))
	case s.Leader == "":
		return fmt.Errorf("%w: reachable %d of %d (%s), an election is under way; try again in a few seconds",
			ErrNoLeader, len(s.Reachable), len(s.Voters), list(s.Reachable))
	}
	return fmt.Errorf("%w that answered in time: %s did not confirm the command, which may yet take effect; "+
		"look at the state before trying again", ErrNoLeader, s.Leader)
}

func list(regions []antipode.Region) string {
	names := make([]string, len(regions))
	for i, r := range regions {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// raftLogger hands on what Raft has to say. It panics where Raft means to end
// the process: Core.guard takes that as a crash.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any) { l.log.Debug("raft", slog.String("said", fmt.Sprint(v...))) }

func (l raftLogger) Debugf(f string, v ...any)   { l.log.Debug("raft", slog.Any("said", said{f, v})) }
func (l raftLogger) Info(v ...any)               { l.Debug(v...) }
func (l raftLogger) Infof(f string, v ...any)    { l.Debugf(f, v...) }
func (l raftLogger) Warning(v ...any)            { l.Debug(v...) }
func (l raftLogger) Warningf(f string, v ...any) { l.Debugf(f, v...) }
func (l raftLogger) Error(v ...any)              { l.log.Warn("raft", slog.String("said", fmt.Sprint(v...))) }

func (l raftLogger) Errorf(f string, v ...any) { l.log.Warn("raft", slog.Any("said", said{f, v})) }
func (l raftLogger) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }

// said formats a message only if it is logged.
type said struct {
	format string
	args   []any
}

// LogValue implements slog.LogValuer.
func (s said) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf(s.format, s.args...)) }
