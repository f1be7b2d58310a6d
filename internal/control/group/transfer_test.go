package group

import (
	"testing"
	"testing/cryptotest"

	"github.com/antipode-io/antipode"
)

// TestTransfer: the leadership goes to who is asked to take it, and only to a
// voter that is there and close behind.
func TestTransfer(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 7)
	c := newCluster(t, three()...)
	c.upAll()
	c.until("a leader", 100, func() bool { return c.leader() != nil })
	was := c.leader()
	var heir antipode.Region
	for _, v := range c.voters {
		if v != was.name {
			heir = v
		}
	}
	transfer := func(from *member, to antipode.Region) {
		t.Helper()
		if err := from.core.Transfer(to); err != nil {
			t.Fatal(err)
		}
		c.after(from)
	}
	c.run(10)
	transfer(c.members[heir], was.name) // it does not lead
	transfer(was, was.name)
	transfer(was, "atlantis")
	c.run(10)
	if got := c.leader(); got != was {
		t.Fatalf("%s leads without reason", got.name)
	}
	transfer(was, heir)
	c.until("the heir leads", 3, func() bool { return c.leader() == c.members[heir] })

	c.isolate(was.name, true)
	c.run(40)
	transfer(c.members[heir], was.name) // which is out of reach
	c.propose(c.members[heir], "tokyo")
	c.until("a proposal goes through at once", 3, func() bool { return c.has(c.members[heir], "tokyo") })
}

// TestElectionInTime: with the ticks that are the default a new leader is there
// within 24 ticks and the way there and back of two rounds of votes.
func TestElectionInTime(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 8)
	for range 20 {
		c := newCluster(t, three()...)
		c.upAll()
		c.until("a leader", 100, func() bool { return c.leader() != nil })
		c.run(10)
		c.down(c.leader())
		c.until("another leader", 24, func() bool { return c.leader() != nil })
	}
}
