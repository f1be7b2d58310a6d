// Package group replicates the commands of package control through a Raft group
// with one voter per region, witnesses included.
//
// Core is the voter as a deterministic state machine; Group runs one with a
// goroutine and a ticker; Transport carries its messages over links. All methods
// of a Group may be called concurrently. Whoever opened it closes it, before the
// store. Every region reads its own copy, State, which needs no one else:
// when the group is out of reach, what was agreed stays in force.
//
// The group's voters are fixed when it is founded. Its log and state share the
// region's store, under keys that start with 'r'.
package group

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// inboxSize is how many messages may wait for the voter; more are dropped, which
// Raft is made for.
const inboxSize = 1024

// Group is one running voter.
type Group struct {
	cfg   Config
	inbox chan incoming
	calls chan *call
	heirs chan antipode.Region // whom to hand the leadership to
	stop  context.CancelFunc
	ended chan struct{}

	state  atomic.Pointer[control.State]
	status atomic.Pointer[Status]

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of state
}

type incoming struct {
	from antipode.Region
	data []byte
}

// call is one Propose.
type call struct {
	ctx     context.Context // ends the wait for the result
	command control.Command
	result  chan Result // gets one
}

// Open opens the voter and lets it take part until ctx ends or Close is called.
// The state as far as it is known to be agreed is there at once.
func Open(ctx context.Context, cfg Config) (*Group, error) {
	core, err := OpenCore(cfg)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	g := &Group{
		cfg: core.cfg, inbox: make(chan incoming, inboxSize), calls: make(chan *call), heirs: make(chan antipode.Region),
		stop: stop, ended: make(chan struct{}), changed: make(chan struct{}),
	}
	g.publish(core)
	go g.run(ctx, core)
	return g, nil
}

// Close ends the voter's part and waits for it to end.
func (g *Group) Close() error {
	g.stop()
	<-g.ended
	return nil
}

// State returns the agreed state as far as this region knows it. It is never nil
// and not to be changed.
func (g *Group) State() *control.State { return g.state.Load() }

// Changed returns a channel that is closed at the next change of State. Take it
// before reading State, so that no change is missed.
func (g *Group) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Status returns where the voter stood a moment ago.
func (g *Group) Status() Status { return *g.status.Load() }

// Leader returns the region that leads the group, if one is known.
func (g *Group) Leader() (antipode.Region, bool) {
	leader := g.Status().Leader
	return leader, leader != ""
}

// Transfer hands the leadership to another voter, if this one leads and the other
// has everything that is agreed on. Otherwise nothing happens; Leader tells.
func (g *Group) Transfer(ctx context.Context, to antipode.Region) {
	select {
	case g.heirs <- to:
	case <-ctx.Done():
	case <-g.ended:
	}
}

// Receive hands in a message from another voter. It never waits.
func (g *Group) Receive(from antipode.Region, msg []byte) {
	select {
	case g.inbox <- incoming{from, msg}:
	default:
	}
}

// Propose has the group agree on the command and returns the state after it, once
// that is this region's state too; or the error with which the state refused the
// command. Without an answer until ctx ends, the error says why: ErrNoQuorum,
// ErrNoLeader. The command may then still be applied later.
func (g *Group) Propose(ctx context.Context, command control.Command) (*control.State, error) {
	c := &call{ctx: ctx, command: command, result: make(chan Result, 1)}
	select {
	case g.calls <- c:
	case <-ctx.Done():
		return nil, g.Status().unanswered()
	case <-g.ended:
		return nil, g.endedError()
	}
	select {
	case r := <-c.result:
		return r.State, r.Err
	case <-ctx.Done():
		return nil, g.Status().unanswered()
	case <-g.ended:
		return nil, g.endedError()
	}
}

func (g *Group) endedError() error {
	if err := g.Status().Err; err != nil {
		return err
	}
	return ErrClosed
}

// run is the goroutine that owns the core.
func (g *Group) run(ctx context.Context, core *Core) {
	defer close(g.ended)
	defer g.stop()
	ticker := time.NewTicker(g.cfg.Tick)
	defer ticker.Stop()
	waiting := map[Ticket]*call{}
	for {
		g.flush(core, waiting)
		if core.err != nil {
			g.cfg.Logger.Error("control group's voter has stopped", slog.Any("error", core.err))
			if g.cfg.OnFatal != nil {
				g.cfg.OnFatal(core.err)
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for t, c := range waiting {
				if c.ctx.Err() != nil {
					core.Abandon(t)
					delete(waiting, t)
				}
			}
			_ = core.Tick() // the error stays in core.err
		case m := <-g.inbox:
			_ = core.Receive(m.from, m.data)
		case to := <-g.heirs:
			_ = core.Transfer(to)
		case c := <-g.calls:
			t, err := core.Propose(c.command)
			if err != nil {
				c.result <- Result{Err: err}
				continue
			}
			waiting[t] = c
		}
	}
}

// flush hands out what the core has produced.
func (g *Group) flush(core *Core, waiting map[Ticket]*call) {
	out, done := core.Take()
	g.publish(core) // before the results: who proposed sees the effect in State
	for _, m := range out {
		g.cfg.Send(m.To, m.Data)
	}
	for _, r := range done {
		if c, ok := waiting[r.Ticket]; ok {
			delete(waiting, r.Ticket)
			c.result <- r
		}
	}
}

func (g *Group) publish(core *Core) {
	status := core.Status()
	g.status.Store(&status)
	if state := core.State(); g.state.Load() != state {
		g.state.Store(state)
		g.mu.Lock()
		close(g.changed)
		g.changed = make(chan struct{})
		g.mu.Unlock()
	}
}
