package group

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

const (
	// retryTicks is how long an unanswered proposal waits before it is sent again.
	retryTicks = 10
	// maxOpen is how many proposals of this voter are under way at a time: well
	// within the window of a session.
	maxOpen = 32
	// keepEntries is how many entries stay in memory below a snapshot, for
	// voters that are only a little behind.
	keepEntries = 100
)

// Core is one voter as a state machine without goroutine, clock or socket: the
// owner passes in ticks and messages and takes out messages and results. What
// it says in a message is durable by then. The random part of election timeouts
// comes from crypto/rand, which testing/cryptotest makes repeatable.
//
// Messages may be lost, doubled, delayed and reordered, with one exception: what a
// voter sent before it lost its disk must not arrive after what it sends later.
//
// A Core is used by one goroutine. When one of its methods returns an error the
// voter has stopped for good; its State stays as it was.
type Core struct {
	cfg   Config
	disk  disk
	meta  meta
	ids   map[antipode.Region]uint64
	names map[uint64]antipode.Region
	conf  *raftpb.ConfState

	mem     *raft.MemoryStorage // what is on disk, in the form that Raft reads
	node    *raft.RawNode
	machine *machine
	applied uint64
	base    uint64 // index of the last snapshot

	nonce    uint64 // of this start, so that old answers are known for what they are
	ticks    uint64
	kicks    int    // how often this voter still stands for election early
	kickAt   uint64 // when, in ticks
	leader   uint64
	resetAt  uint64 // before this tick no voter's progress is reset again
	peers    map[antipode.Region]*peer
	snapping map[uint64]int // ticks since a snapshot went to this voter

	seq     uint64 // of the last proposal
	ticket  Ticket
	pending map[uint64]*proposal // by sequence

	out  []Message
	done []Result
	err  error
}

// Message is one message for another voter.
type Message struct {
	To   antipode.Region
	Data []byte
}

// Ticket names a proposal towards the owner of a Core.
type Ticket uint64

// Result says how a proposal went: the state after it, or why it was refused.
type Result struct {
	Ticket Ticket
	State  *control.State
	Err    error
}

type proposal struct {
	ticket  Ticket
	command control.Command
	data    []byte
	sentAt  uint64 // tick; 0 when it is not on its way
	sent    bool   // it has been on its way
}

// OpenCore opens the voter whose records are in cfg.Store, or makes a new one.
// The state as far as it is known to be agreed is there at once.
func OpenCore(cfg Config) (*Core, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg: cfg, disk: disk{cfg.Store},
		ids: map[antipode.Region]uint64{}, names: map[uint64]antipode.Region{},
		conf:  raftpb.EnsureConfState(nil),
		mem:   raft.NewMemoryStorage(),
		peers: map[antipode.Region]*peer{}, snapping: map[uint64]int{}, pending: map[uint64]*proposal{},
	}
	for _, v := range cfg.Voters {
		id := voterID(v)
		c.ids[v], c.names[id] = id, v
		c.conf.Voters = append(c.conf.Voters, id)
		if v != cfg.Self {
			c.peers[v] = &peer{}
		}
	}
	slices.Sort(c.conf.Voters)
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	c.nonce = binary.LittleEndian.Uint64(nonce[:])
	if err := c.recover(); err != nil {
		return nil, fmt.Errorf("open control group: %w", err)
	}
	err = c.guard(func() error {
		if err := c.restart(); err != nil {
			return err
		}
		if c.meta.Joined {
			c.plan()
		}
		return c.join()
	})
	if err != nil {
		return nil, fmt.Errorf("open control group: %w", err)
	}
	c.greet()
	return c, nil
}

// recover reads what is on disk, or writes what a new voter starts with.
func (c *Core) recover() error {
	s, err := c.disk.load()
	if err != nil {
		return err
	}
	if s == nil {
		if s, err = c.blank(); err != nil {
			return err
		}
	} else if err := s.meta.check(c.cfg); err != nil {
		return err
	}
	c.meta = s.meta
	c.meta.Boot++
	if err := c.disk.saveMeta(c.meta); err != nil {
		return err
	}
	c.seq = uint64(c.meta.Boot) << 32

	if c.machine, err = decodeMachine(s.snapshot.GetData()); err != nil {
		return err
	}
	c.applied = s.snapshot.GetMetadata().GetIndex()
	c.base = c.applied
	if s.hard.GetCommit() < c.applied {
		s.hard.Commit = new(c.applied)
	}
	if err := c.mem.ApplySnapshot(s.snapshot); err != nil {
		return fmt.Errorf("load control group's log: %w", err)
	}
	if err := c.mem.SetHardState(s.hard); err != nil {
		return fmt.Errorf("load control group's log: %w", err)
	}
	if err := c.mem.Append(s.entries); err != nil {
		return fmt.Errorf("load control group's log: %w", err)
	}
	return nil
}

func (c *Core) blank() (*stored, error) {
	data, err := newMachine().encode()
	if err != nil {
		return nil, err
	}
	s := &stored{
		meta: meta{Format: metaFormat, Self: c.cfg.Self, Voters: slices.Sorted(slices.Values(c.cfg.Voters))},
		hard: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(baseIndex))},
		snapshot: &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
			ConfState: c.conf, Index: new(uint64(baseIndex)), Term: new(uint64(1)),
		}},
	}
	return s, c.disk.create(s.meta, s.hard, s.snapshot)
}

// restart makes the Raft node anew from what is on disk.
func (c *Core) restart() error {
	node, err := raft.NewRawNode(&raft.Config{
		ID: c.ids[c.cfg.Self], Storage: c.mem, Applied: c.applied,
		ElectionTick: c.cfg.ElectionTicks, HeartbeatTick: c.cfg.HeartbeatTicks,
		PreVote: true, CheckQuorum: true,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 64, MaxUncommittedEntriesSize: 32 << 20,
		MaxCommittedSizePerReady: 4 << 20,
		Logger:                   raftLogger{c.cfg.Logger},
	})
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	c.node = node
	return c.drain()
}

// guard runs one step. Raft panics where its input contradicts its log; that is
// taken as a crash: the node is made anew from what is on disk.
func (c *Core) guard(step func() error) error {
	if c.err != nil {
		return c.err
	}
	err := safely(step)
	if errors.Is(err, errPanic) {
		c.cfg.Logger.Error("control group's voter met a contradiction and starts again from its log", slog.Any("error", err))
		err = safely(c.restart)
	}
	c.err = err
	return err
}

func safely(step func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return step()
}

// Tick lets one unit of time pass.
func (c *Core) Tick() error {
	return c.guard(func() error {
		c.ticks++
		c.ping()
		if !c.meta.Joined {
			return c.join()
		}
		c.node.Tick()
		c.missLeader()
		if err := c.kick(); err != nil {
			return err
		}
		c.watchSnapshots()
		if err := c.drain(); err != nil {
			return err
		}
		c.sendPending()
		return c.drain()
	})
}

// Receive takes a message from another voter. A bad one is logged and dropped.
func (c *Core) Receive(from antipode.Region, data []byte) error {
	p, known := c.peers[from]
	if !known {
		c.cfg.Logger.Warn("message for the control group from a region that does not vote", slog.String("from", string(from)))
		return c.err
	}
	m, h, err := decodeMessage(data)
	if err != nil {
		c.cfg.Logger.Warn("message for the control group was dropped", slog.String("from", string(from)), slog.Any("error", err))
		return c.err
	}
	p.heardAt, p.heard = c.ticks, true
	return c.guard(func() error {
		if h != nil {
			return c.onHello(from, *h)
		}
		return c.onRaft(from, m)
	})
}

func (c *Core) onRaft(from antipode.Region, m *raftpb.Message) error {
	if m.GetFrom() != c.ids[from] || m.GetTo() != c.ids[c.cfg.Self] {
		c.cfg.Logger.Warn("message for the control group was dropped: it names other voters than it travelled between", slog.String("from", string(from)))
		return nil
	}
	if m.GetType() == raftpb.MsgSnap && !slices.Equal(m.GetSnapshot().GetMetadata().GetConfState().GetVoters(), c.conf.GetVoters()) {
		c.cfg.Logger.Warn("snapshot of the control group was dropped: it names other voters than this region's spec", slog.String("from", string(from)))
		return nil
	}
	if lost, err := c.checkLost(m); lost || err != nil {
		return err
	}
	if !c.meta.Joined && votes(m.GetType()) {
		return nil
	}
	if err := c.node.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		c.cfg.Logger.Debug("raft refused a message", slog.Any("error", err))
	}
	if err := c.drain(); err != nil {
		return err
	}
	c.sendPending()
	if err := c.drain(); err != nil {
		return err
	}
	return c.join()
}

// Propose puts a command forward. Its Result comes when it is applied here.
func (c *Core) Propose(command control.Command) (Ticket, error) {
	if c.err != nil {
		return 0, c.err
	}
	p := &proposal{command: command}
	if err := c.enlist(p); err != nil {
		return 0, err
	}
	c.ticket++
	p.ticket = c.ticket
	return p.ticket, c.guard(func() error {
		c.sendPending()
		return c.drain()
	})
}

// transferLag is how many entries a voter may be behind and still be handed the
// leadership: it gets them first, and until then nobody takes proposals.
const transferLag = 64

// Transfer hands the leadership to another voter. It does nothing unless this
// one leads and the other is there and has almost all that is agreed on.
func (c *Core) Transfer(to antipode.Region) error {
	return c.guard(func() error {
		st := c.node.BasicStatus()
		id, known := c.ids[to]
		if !known || to == c.cfg.Self || st.RaftState != raft.StateLeader || !c.reachable(c.peers[to]) {
			return nil
		}
		ready := false
		c.node.WithProgress(func(other uint64, _ raft.ProgressType, pr tracker.Progress) {
			if other == id {
				ready = pr.State == tracker.StateReplicate && pr.Match+transferLag >= st.GetCommit()
			}
		})
		if !ready {
			return nil
		}
		c.cfg.Logger.Info("control group's leadership is handed on", slog.String("to", string(to)))
		c.node.TransferLeader(id)
		return c.drain()
	})
}

// enlist gives the proposal its sequence.
func (c *Core) enlist(p *proposal) error {
	data, err := encodeEntry(entry{From: c.cfg.Self, Run: c.nonce, Seq: c.seq + 1, Command: p.command})
	if err != nil {
		return err
	}
	c.seq++
	p.data, p.sentAt, p.sent = data, 0, false
	c.pending[c.seq] = p
	return nil
}

// Abandon gives up waiting for a proposal. It may be applied all the same.
func (c *Core) Abandon(t Ticket) {
	maps.DeleteFunc(c.pending, func(_ uint64, p *proposal) bool { return p.ticket == t })
}

// sendPending sends proposals that were not sent, or were not heard of for a while.
func (c *Core) sendPending() {
	if !c.meta.Joined || c.leader == raft.None || len(c.pending) == 0 {
		return // before it has joined, a voter may count from the start without knowing
	}
	open := slices.Sorted(maps.Keys(c.pending))
	for _, seq := range open[:min(len(open), maxOpen)] {
		p := c.pending[seq]
		if p.sentAt != 0 && c.ticks < p.sentAt+retryTicks {
			continue
		}
		if err := c.node.Propose(p.data); err != nil {
			return // no leader, or it is busy: later
		}
		p.sentAt, p.sent = c.ticks+1, true // never 0
	}
}

// Take returns the messages to send and the results of proposals since the last call.
func (c *Core) Take() ([]Message, []Result) {
	out, done := c.out, c.done
	c.out, c.done = nil, nil
	return out, done
}

// State returns the agreed state as far as this voter knows it.
func (c *Core) State() *control.State { return c.machine.state }

// drain does what Raft asks for: first to disk, then into messages and state.
func (c *Core) drain() error {
	for c.node.HasReady() {
		rd := c.node.Ready()
		if err := c.disk.save(rd); err != nil {
			return err
		}
		if err := c.remember(rd); err != nil {
			return err
		}
		for _, m := range rd.Messages {
			c.send(m)
		}
		for _, e := range rd.CommittedEntries {
			if err := c.apply(e); err != nil {
				return err
			}
		}
		c.node.Advance(rd)
	}
	if lead := c.node.BasicStatus().Lead; lead != c.leader {
		c.leader = lead
		c.cfg.Logger.Info("control group's leader changed", slog.String("leader", string(c.names[lead])), slog.Uint64("term", c.node.BasicStatus().GetTerm()))
		for _, p := range c.pending {
			p.sentAt = 0 // what was on its way to the old one may be lost
		}
	}
	return c.compact()
}

// remember repeats in memory what was written to disk.
func (c *Core) remember(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		m, err := decodeMachine(rd.Snapshot.GetData())
		if err != nil {
			return err
		}
		if err := c.mem.ApplySnapshot(rd.Snapshot); err != nil {
			return fmt.Errorf("take over snapshot: %w", err)
		}
		c.machine, c.applied = m, rd.Snapshot.GetMetadata().GetIndex()
		c.base = c.applied
		if err := c.settle(); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := c.mem.SetHardState(rd.HardState); err != nil {
			return fmt.Errorf("keep hard state: %w", err)
		}
	}
	if err := c.mem.Append(rd.Entries); err != nil {
		return fmt.Errorf("keep entries: %w", err)
	}
	return nil
}

// settle ends the proposals that a snapshot has overtaken: it tells that they
// were applied, not how that went.
func (c *Core) settle() error {
	s := c.machine.sessions[c.cfg.Self]
	for _, seq := range slices.Sorted(maps.Keys(c.pending)) {
		if _, fresh := s.admit(seq); fresh {
			continue
		}
		if !c.pending[seq].sent { // then it is not the one that was applied
			if err := c.renew(seq); err != nil {
				return err
			}
			continue
		}
		c.finish(seq, Result{Err: fmt.Errorf("%w: this region learned it from a snapshot: look at the state, then try again", ErrOutcomeUnknown)})
	}
	c.seq = max(c.seq, s.Max)
	return nil
}

func (c *Core) finish(seq uint64, r Result) {
	if p, ok := c.pending[seq]; ok {
		delete(c.pending, seq)
		r.Ticket = p.ticket
		c.done = append(c.done, r)
	}
}

// apply takes one agreed entry.
func (c *Core) apply(e *raftpb.Entry) error {
	if e.GetType() != raftpb.EntryNormal {
		return fmt.Errorf("%w: entry %d changes the voters: upgrade this region", ErrNewer, e.GetIndex())
	}
	if len(e.GetData()) > 0 { // a new leader's first entry is empty
		ent, err := decodeEntry(e.GetData())
		if err != nil {
			return fmt.Errorf("apply entry %d of the control group: %w", e.GetIndex(), err)
		}
		fresh, err := c.machine.apply(e.GetIndex(), ent)
		if ent.From == c.cfg.Self && ent.Run == c.nonce {
			if fresh {
				c.finish(ent.Seq, Result{State: c.machine.state, Err: err})
			} else if err := c.renew(ent.Seq); err != nil {
				return err
			}
		}
	}
	c.applied = e.GetIndex()
	return nil
}

// renew sends a proposal again under a new sequence, when the group refused the
// old one as too old: a voter that lost its disk counts from the start.
func (c *Core) renew(seq uint64) error {
	p, ok := c.pending[seq]
	if !ok {
		return nil // sent twice, applied once
	}
	delete(c.pending, seq)
	c.seq = max(c.seq, c.machine.sessions[c.cfg.Self].Max)
	return c.enlist(p)
}

func (c *Core) send(m *raftpb.Message) {
	to, ok := c.names[m.GetTo()]
	if !ok || to == c.cfg.Self {
		return
	}
	data, err := encodeRaft(m)
	if err != nil {
		c.cfg.Logger.Error("message for the control group was dropped", slog.Any("error", err))
		return
	}
	c.out = append(c.out, Message{To: to, Data: data})
}

// watchSnapshots has Raft try again where a snapshot seems to be lost.
func (c *Core) watchSnapshots() {
	waiting := map[uint64]bool{}
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.State == tracker.StateSnapshot {
			waiting[id] = true
		}
	})
	maps.DeleteFunc(c.snapping, func(id uint64, _ int) bool { return !waiting[id] })
	for id := range waiting {
		c.snapping[id]++
		if c.snapping[id] > 2*c.cfg.ElectionTicks {
			delete(c.snapping, id)
			c.node.ReportSnapshot(id, raft.SnapshotFailure)
		}
	}
}

// compact cuts the log down to a snapshot once it is long.
func (c *Core) compact() error {
	if c.applied-c.base < uint64(c.cfg.CompactAfter) {
		return nil
	}
	data, err := c.machine.encode()
	if err != nil {
		return err
	}
	snap, err := c.mem.CreateSnapshot(c.applied, c.conf, data)
	if err != nil {
		return fmt.Errorf("compact control group's log: %w", err)
	}
	if err := c.disk.compact(snap); err != nil {
		return err
	}
	c.base = c.applied
	if keep := uint64(min(keepEntries, c.cfg.CompactAfter)); c.applied > keep {
		if err := c.mem.Compact(c.applied - keep); err != nil && !errors.Is(err, raft.ErrCompacted) {
			return fmt.Errorf("compact control group's log: %w", err)
		}
	}
	return nil
}
