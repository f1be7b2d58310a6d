package group

import (
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/antipode-io/antipode"
)

// peer is what this voter knows of another. Except for the first two fields it
// comes from answers to what was asked since this voter's start.
type peer struct {
	heard   bool
	heardAt uint64 // tick
	greeted bool   // an answer has come
	fresh   bool   // an answer has come that knew of nothing agreed
	joined  bool   // by its last answer
	leads   bool   // by its last answer
	term    uint64 // by its last answer
	ledTerm uint64 // the last term in which it said that it leads
	ledLast uint64 // the last entry that it had when it first said so
}

// votes reports whether a message is about elections.
func votes(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTimeoutNow:
		return true
	default:
		return false
	}
}

// greet tells all other voters where this one stands, and asks where they do.
func (c *Core) greet() {
	for _, v := range c.cfg.Voters {
		if v != c.cfg.Self {
			c.hello(v, c.nonce, 0)
		}
	}
}

func (c *Core) hello(to antipode.Region, ask, echo uint64) {
	st := c.node.BasicStatus()
	data, err := encodeHello(hello{
		Ask: ask, Echo: echo, Joined: c.meta.Joined, Leader: st.RaftState == raft.StateLeader,
		Term: st.GetTerm(), Commit: st.GetCommit(), Last: c.last(),
	})
	if err != nil {
		return // it has nothing that can't be encoded
	}
	c.out = append(c.out, Message{To: to, Data: data})
}

// last returns the index of the last entry in the log.
func (c *Core) last() uint64 {
	last, _ := c.mem.LastIndex() // MemoryStorage has no errors to give here
	return last
}

// ping asks voters that were not heard of for a while whether they are there,
// and all of them as long as this voter waits to join.
func (c *Core) ping() {
	if !c.meta.Joined {
		if c.ticks%2 == 0 {
			c.greet()
		}
		return
	}
	every := uint64(max(c.cfg.ElectionTicks/2, 1))
	if c.ticks%every != 0 {
		return
	}
	for _, v := range c.cfg.Voters {
		if p := c.peers[v]; p != nil && c.ticks-p.heardAt >= every {
			c.hello(v, c.nonce, 0)
		}
	}
}

// reachable reports whether the peer was heard of lately.
func (c *Core) reachable(p *peer) bool {
	return p.heard && c.ticks-p.heardAt <= uint64(2*c.cfg.ElectionTicks)
}

func (c *Core) onHello(from antipode.Region, h hello) error {
	if h.Echo == c.nonce {
		p := c.peers[from]
		p.greeted, p.joined, p.leads, p.term = true, h.Joined, h.Leader, h.Term
		p.fresh = p.fresh || h.Commit <= baseIndex
		if h.Leader && p.ledTerm != h.Term {
			p.ledTerm, p.ledLast = h.Term, h.Last
		}
	}
	if h.Ask != 0 {
		c.hello(from, 0, h.Ask)
	}
	if c.node.BasicStatus().RaftState == raft.StateLeader {
		if err := c.heal(from, h); err != nil {
			return err
		}
	}
	return c.join()
}

// join lets this voter vote once that is safe.
//
// A voter whose store is empty is new, or has lost its disk, and can't tell
// which. If it voted after a loss, it could elect a leader that lacks entries
// which it had itself helped to agree on. So it first asks the others. If
// none of them, at a time after this voter's start, knew of anything agreed,
// then nothing was lost: the group is new. (A majority will do after a while,
// when the rest has not been heard of at all.) Otherwise it keeps out of
// elections, but stores what the leader sends, until it has all that could
// have been agreed on with its help. That is what the leader of the latest
// term had in its log, among so many voters that any majority which included
// this one shares a member with them (the recovery of Viewstamped Replication
// Revisited, Liskov and Cowling, MIT 2012, 4.3).
//
// Of two voters the other one has all that was agreed, and the terms of all the
// votes that counted, since neither was a majority without it: this one may vote
// at once, and has to, or there would never be a leader again.
func (c *Core) join() error {
	if c.meta.Joined {
		return nil
	}
	voters := len(c.cfg.Voters)
	fresh, known, joined := 1, 1, 0
	var lead *peer
	for _, v := range c.cfg.Voters {
		p := c.peers[v]
		if p == nil || !p.greeted {
			continue
		}
		known++
		if p.fresh {
			fresh++
		}
		if p.joined {
			joined++
			if lead == nil || p.term > lead.term || (p.term == lead.term && p.ledTerm > lead.ledTerm) {
				lead = p
			}
		}
	}
	founding := fresh == voters ||
		(fresh == known && fresh > voters/2 && c.ticks >= uint64(c.cfg.FirstStartTicks))
	caughtUp := joined >= (voters+1)/2 && lead != nil && lead.ledTerm == lead.term &&
		c.node.BasicStatus().GetTerm() >= lead.term &&
		c.node.BasicStatus().GetCommit() >= lead.ledLast
	ofTwo := voters == 2 && lead != nil && !lead.leads
	if !founding && !caughtUp && !ofTwo {
		return nil
	}
	m := c.meta
	m.Joined = true
	if err := c.disk.saveMeta(m); err != nil {
		return err
	}
	c.meta = m
	c.cfg.Logger.Info("this region votes in the control group", slog.Bool("new_group", founding))
	c.plan()
	if founding && c.cfg.Voters[0] == c.cfg.Self {
		c.kickAt = c.ticks
		if err := c.kick(); err != nil {
			return err
		}
	}
	return c.drain()
}

// plan has the voters stand for election one after the other when they start,
// rather than wait for a timeout that suits a long outage.
func (c *Core) plan() {
	c.kicks = 3
	c.kickAt = c.ticks + 1 + uint64(3*slices.Index(c.cfg.Voters, c.cfg.Self))
}

// missLeader plans an election when the leader has been silent for as long as
// Raft waits at least. Raft alone lets chance decide who stands first, waits up to
// as long again for it, and that again when two stand at once.
func (c *Core) missLeader() {
	if c.kicks > 0 || c.leader == raft.None || !c.silent() {
		return
	}
	c.kicks = 3
	c.kickAt = c.ticks + 1 + c.turn()
}

// silent reports whether the leader, another voter, has not been heard of for so
// long that the others may vote for somebody else.
func (c *Core) silent() bool {
	p := c.peers[c.names[c.leader]]
	return p != nil && c.ticks-p.heardAt >= uint64(c.cfg.ElectionTicks)
}

const (
	// turnTicks keeps voters apart by more than a pre-vote and half a vote take on a
	// long way: whoever is second then hears of the first in time.
	turnTicks = 4
	// againTicks is more than a pre-vote and a vote take: standing again before that
	// would throw away the votes that are on their way.
	againTicks = 8
)

// turn is how many ticks a voter lets pass for those before it.
func (c *Core) turn() uint64 {
	order := slices.DeleteFunc(slices.Clone(c.cfg.Voters), func(v antipode.Region) bool { return c.ids[v] == c.leader })
	return uint64(turnTicks * max(0, slices.Index(order, c.cfg.Self)))
}

// kick stands for election when it is this voter's turn by plan. Where there is a
// leader that this voter has not heard of yet, the pre-vote keeps it from doing
// any harm.
func (c *Core) kick() error {
	if c.kicks == 0 || c.ticks < c.kickAt {
		return nil
	}
	c.kicks--
	if c.node.BasicStatus().Lead != raft.None && !c.silent() {
		c.kicks = 0
		return nil
	}
	c.kickAt = c.ticks + againTicks + c.turn()
	if err := c.node.Campaign(); err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	return nil
}

// checkLost notices that a leader counts on entries which this voter doesn't
// have: its disk was lost, or put back from a copy. Raft itself would panic.
func (c *Core) checkLost(m *raftpb.Message) (bool, error) {
	if m.GetType() != raftpb.MsgHeartbeat || m.GetCommit() <= c.last() || m.GetTerm() < c.node.BasicStatus().GetTerm() {
		return false, nil
	}
	if c.meta.Joined {
		c.cfg.Logger.Error("this region's copy of the control group's log is older than what it has acknowledged; it does not vote until it has caught up")
		lost := c.meta
		lost.Joined = false
		if err := c.disk.saveMeta(lost); err != nil {
			return true, err
		}
		c.meta = lost
	}
	c.hello(c.names[m.GetFrom()], c.nonce, 0)
	return true, nil
}

// heal gets a voter that has lost entries going again. This leader believes that
// it has them, and Raft knows no way to unlearn that; another leader starts
// without such beliefs.
func (c *Core) heal(from antipode.Region, h hello) error {
	if c.ticks < c.resetAt {
		return nil
	}
	var lost bool
	var heir, most uint64
	id := c.ids[from]
	c.node.WithProgress(func(other uint64, _ raft.ProgressType, pr tracker.Progress) {
		switch {
		case other == id:
			lost = pr.Match > h.Last && !h.Joined
		case other != c.ids[c.cfg.Self] && pr.Match > most && c.reachable(c.peers[c.names[other]]):
			heir, most = other, pr.Match
		}
	})
	if !lost {
		return nil
	}
	c.resetAt = c.ticks + uint64(2*c.cfg.ElectionTicks)
	c.cfg.Logger.Warn("a region has lost its copy of the control group's log and gets it again", slog.String("region", string(from)))
	if heir != 0 {
		c.node.TransferLeader(heir)
		return c.drain()
	}
	return c.restart()
}
