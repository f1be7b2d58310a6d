package ship

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Links is what a Runner needs of the connections between regions.
type Links interface {
	Peers() []antipode.Region
	Dial(ctx context.Context, to antipode.Region, kind link.Kind) (net.Conn, error)
	HandleConn(kind link.Kind, h link.ConnHandler)
}

// How a runner behaves in time.
const (
	heartbeatEvery = 250 * time.Millisecond
	// ackEvery is how long commits are gathered before one sync of the disk and
	// one acknowledgement; idleAckEvery is how often, without commits, it is looked
	// for what else the peer has to be told.
	ackEvery = 10 * time.Millisecond
	// ackPromptly is that where writes are answered only after it.
	ackPromptly  = time.Millisecond
	idleAckEvery = 100 * time.Millisecond
	// pauseAfterFrame is what replication lag is given up for fewer frames. While
	// there is more to send than busyBytes in every millisecond of it, it doubles, up
	// to pauseWhenBusy, or pausePromptly where writes wait for what is sent.
	pauseAfterFrame = time.Millisecond
	pausePromptly   = 4 * time.Millisecond
	pauseWhenBusy   = 16 * time.Millisecond
	busyBytes       = 400
	helloTimeout    = 15 * time.Second
	backoffMin      = 50 * time.Millisecond
	backoffMax      = time.Second
	// framesAhead bounds the frames of one connection whose entries are visible
	// and not yet durable.
	framesAhead = 256
)

// Runner drives a Ship over links.
type Runner struct {
	ship  *Ship
	links Links
	// fatal is told of what no retry can mend: see Run.
	fatal  func(error)
	rounds rounds
}

// NewRunner returns a runner. fatal is told when ErrForgotten is met, when the
// store fails, or when a journal has forked; it must not block.
func NewRunner(s *Ship, links Links, fatal func(error)) *Runner {
	return &Runner{ship: s, links: links, fatal: fatal}
}

// Run keeps a connection per peer and stripe, serves the peers' own, and
// returns when ctx ends, after everything it started has ended.
func (r *Runner) Run(ctx context.Context) {
	var wg sync.WaitGroup
	var serving handlers
	r.links.HandleConn(link.KindJournal, func(connCtx context.Context, from antipode.Region, conn net.Conn) {
		if !serving.begin() {
			return
		}
		defer serving.wg.Done()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		r.report(r.receive(connCtx, from, conn), from)
	})
	for _, peer := range r.links.Peers() {
		for stripe := range r.ship.cfg.Stripes {
			wg.Go(func() { r.keepSending(ctx, peer, stripe) })
		}
	}
	wg.Wait()
	<-ctx.Done()
	serving.end()
}

// handlers counts the connections that are served, so that Run ends after the
// last of them and none begins after that.
type handlers struct {
	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

func (h *handlers) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.wg.Add(1)
	return true
}

func (h *handlers) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.wg.Wait()
}

func (r *Runner) keepSending(ctx context.Context, peer antipode.Region, stripe int) {
	backoff := backoffMin
	for ctx.Err() == nil {
		began := time.NewTimer(backoffMax)
		err := r.send(ctx, peer, stripe)
		if ctx.Err() != nil {
			began.Stop()
			return
		}
		r.report(err, peer)
		if !began.Stop() {
			backoff = backoffMin // it held for a while: try again at once
		}
		select {
		case <-time.After(backoff/2 + rand.N(backoff)): //nolint:gosec // jitter, nothing secret
		case <-ctx.Done():
		}
		backoff = min(2*backoff, backoffMax)
	}
}

func (r *Runner) report(err error, peer antipode.Region) {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
	case errors.Is(err, ErrForgotten), errors.Is(err, errStore):
		r.fatal(err)
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrTooOld), errors.Is(err, journal.ErrForked):
		r.ship.cfg.Logger.Error("journal connection", "peer", string(peer), "error", err)
	default:
		r.ship.cfg.Logger.Debug("journal connection ended", "peer", string(peer), "error", err)
	}
}

// errStore marks what this member's own store said.
var errStore = errors.New("applied entries could not be stored")

// send runs one connection as its sender.
func (r *Runner) send(ctx context.Context, peer antipode.Region, stripe int) error {
	conn, err := r.links.Dial(ctx, peer, link.KindJournal)
	if err != nil {
		return err
	}
	x, err := r.ship.NewSender(peer, stripe)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer x.Close()
	first, err := x.Hello()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Now().Add(helloTimeout)) //nolint:forbidigo // a deadline is a timer
	if _, err := conn.Write(first); err != nil {
		return errors.Join(err, conn.Close())
	}
	welcome, err := readFrame(conn)
	if err == nil {
		err = x.Receive(welcome)
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = conn.Close() }()
	sub := r.ship.cfg.Journal.Subscribe(func(id antipode.Shard) bool { return r.ship.stripeOf(id) == stripe })
	defer r.ship.cfg.Journal.Unsubscribe(sub)
	sub.Wake() // there may be what the peer lacks already
	wg.Go(func() {
		for {
			frame, err := readFrame(conn)
			if err == nil {
				err = x.Receive(frame)
			}
			if err != nil {
				cancel(err)
				return
			}
			if frame[0] == frameRewind || frame[0] == frameAck || frame[0] == frameAnswer {
				sub.Wake() // there may be something to send again, or to relay now
			}
		}
	})
	err = r.pump(ctx, conn, x, sub)
	cancel(err)
	return context.Cause(ctx)
}

// pump writes what there is to send until ctx ends. After a frame it pauses, so
// that under load a frame carries several entries: what the frames cost at both
// ends is mostly by the frame. The first entry after a pause is sent at once.
func (r *Runner) pump(ctx context.Context, conn net.Conn, x *Sender, sub *journal.Subscription) error {
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	length := pauseAfterFrame
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C: // not starved by a steady stream of entries
			frame, err := x.Heartbeat()
			if err != nil {
				return err
			}
			if _, err := conn.Write(frame); err != nil {
				return err
			}
			continue
		case <-sub.C:
		}
		n, err := r.flush(conn, x)
		if err != nil {
			return err
		}
		length = nextPause(length, n, x.prompt)
		pause.Reset(length)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// nextPause returns how long to pause after n bytes that have gathered during a
// pause of the length.
func nextPause(length time.Duration, n int, prompt func() bool) time.Duration {
	if n < busyBytes*int(length/time.Millisecond) {
		return max(length/2, pauseAfterFrame)
	}
	if prompt() {
		return min(2*length, pausePromptly)
	}
	return min(2*length, pauseWhenBusy)
}

// flush writes frames until nothing is left to send, and returns their size.
func (r *Runner) flush(conn net.Conn, x *Sender) (n int, err error) {
	for {
		frame, err := x.Next()
		if err != nil || frame == nil {
			return n, err
		}
		if _, err := conn.Write(frame); err != nil {
			return n, err
		}
		n += len(frame)
	}
}

// receive runs one connection as its receiver.
func (r *Runner) receive(ctx context.Context, from antipode.Region, conn net.Conn) error {
	x, err := r.ship.NewReceiver(from)
	if err != nil {
		return err
	}
	defer x.Close()
	applied := make(chan *round, framesAhead)
	var wg sync.WaitGroup
	var write sync.Mutex // one writer of the connection at a time
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	wg.Go(func() { r.acknowledge(ctx, x, conn, &write, applied, failed) })
	defer wg.Wait()
	defer close(applied)
	defer cancel()
	for {
		frame, err := readFrame(conn)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				err = nil
			}
			select {
			case err = <-failed:
			default:
			}
			return err
		}
		reply, done, err := x.Receive(frame)
		if len(done) > 0 {
			applied <- r.rounds.join(done, r.ship.prompt(done))
		}
		if err != nil {
			return err
		}
		if reply != nil {
			write.Lock()
			_, err := conn.Write(reply)
			write.Unlock()
			if err != nil {
				return err
			}
		}
	}
}

// acknowledge tells the peer what has become durable. It ends when applied is
// closed, and all of it is durable.
func (r *Runner) acknowledge(ctx context.Context, x *Receiver, conn net.Conn, write *sync.Mutex, applied <-chan *round, failed chan<- error) {
	tick := time.NewTicker(idleAckEvery)
	defer tick.Stop()
	var last *round
	for open := true; open; {
		var err error
		select {
		case next, ok := <-applied:
			if open = ok; !ok || next == last {
				continue // of a round that was waited for
			}
			last = next
			<-next.done
			if next.err != nil {
				err = errors.Join(errStore, next.err)
			}
		case <-tick.C:
		}
		if err == nil && ctx.Err() == nil {
			err = tell(x, conn, write)
		}
		if err != nil {
			select {
			case failed <- err:
			default:
			}
			_ = conn.Close() // wakes the reader
		}
	}
}

// prompt reports whether somebody waits for the commits to be acknowledged.
func (s *Ship) prompt(commits []*journal.Commit) bool {
	return s.cfg.Prompt != nil && slices.ContainsFunc(commits, func(c *journal.Commit) bool { return s.cfg.Prompt(c.Shard()) })
}

// rounds make what all connections apply durable with one sync of the disk,
// ackEvery after the first of it, or ackPromptly after the first that somebody
// waits for. The zero value is ready.
type rounds struct {
	mu   sync.Mutex
	next *round // nil: nothing waits
}

// round is what one sync makes durable. Err is set before done is closed.
type round struct {
	commits []*journal.Commit
	timer   *time.Timer // ends the gathering
	prompt  bool        // soon
	done    chan struct{}
	err     error
}

// join adds commits to the next round.
func (r *rounds) join(commits []*journal.Commit, prompt bool) *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
		now := r.next
		now.timer = time.AfterFunc(ackEvery, func() { r.sync(now) })
	}
	if prompt && !r.next.prompt {
		r.next.prompt = true
		r.next.timer.Reset(ackPromptly) // should it have gone off, sync comes twice
	}
	r.next.commits = append(r.next.commits, commits...)
	return r.next
}

func (r *rounds) sync(now *round) {
	r.mu.Lock()
	if r.next != now {
		r.mu.Unlock()
		return // it has been, see join
	}
	r.next = nil
	r.mu.Unlock()
	now.err = journal.Sync(now.commits...)
	close(now.done)
}

func tell(x *Receiver, conn net.Conn, write *sync.Mutex) error {
	frames, err := x.Ack()
	if err != nil {
		return err
	}
	write.Lock()
	defer write.Unlock()
	for _, f := range frames {
		if _, err := conn.Write(f); err != nil {
			return err
		}
	}
	return nil
}
