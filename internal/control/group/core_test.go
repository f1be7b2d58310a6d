package group

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
)

const (
	oregon    = antipode.Region("oregon")
	mumbai    = antipode.Region("mumbai")
	frankfurt = antipode.Region("frankfurt")
)

func three() []antipode.Region { return []antipode.Region{oregon, mumbai, frankfurt} }

func putRegion(name string) control.Command {
	return control.Command{PutRegion: &control.Region{Name: antipode.Region(name), Location: "somewhere"}}
}

func openStore(tb testing.TB, fs vfs.FS) engine.Store {
	tb.Helper()
	s, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "store", CacheBytes: 1 << 16})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// member is one voter of a cluster: its core, and the disk that survives it.
type member struct {
	name  antipode.Region
	core  *Core // nil while it is down
	store engine.Store
	fs    *vfs.MemFS

	mu      sync.Mutex
	crashIn int        // writes to disk until the machine stops; 0 for never
	image   *vfs.MemFS // what the disk held when it stopped
	cfg     vfs.CrashCloneCfg
	acks    map[Ticket]string // proposals by ticket
}

// cluster drives cores by hand.
type cluster struct {
	t       testing.TB
	voters  []antipode.Region
	members map[antipode.Region]*member
	wire    []wired
	cut     map[[2]antipode.Region]bool
	config  func(*Config)

	history map[uint64]string // state by index: the same everywhere
	acked   map[string]bool
	refused int
	unknown []string
}

type wired struct {
	from antipode.Region
	Message
}

func newCluster(t testing.TB, voters ...antipode.Region) *cluster {
	t.Helper()
	c := &cluster{
		t: t, voters: voters, members: map[antipode.Region]*member{}, cut: map[[2]antipode.Region]bool{},
		history: map[uint64]string{}, acked: map[string]bool{},
	}
	for _, v := range voters {
		c.members[v] = &member{name: v, fs: vfs.NewCrashableMem()}
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			c.down(m)
		}
	})
	return c
}

// up starts a voter on its disk.
func (c *cluster) up(m *member) {
	c.t.Helper()
	m.acks = map[Ticket]string{}
	m.crashIn, m.image = 0, nil
	m.store = openStore(c.t, errorfs.Wrap(m.fs, errorfs.InjectorFunc(m.onDisk)))
	cfg := Config{Self: m.name, Voters: c.voters, Store: m.store, CompactAfter: 20}
	if c.config != nil {
		c.config(&cfg)
	}
	core, err := OpenCore(cfg)
	if err != nil {
		c.t.Fatalf("%s: %v", m.name, err)
	}
	m.core = core
	c.after(m)
}

// onDisk keeps what the disk holds at the moment that the machine is to stop.
func (m *member) onDisk(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashIn > 0 {
		if m.crashIn--; m.crashIn == 0 {
			m.image = m.fs.CrashClone(m.cfg)
		}
	}
	return nil
}

// down stops a voter; what it has not sent is lost.
func (c *cluster) down(m *member) {
	if m.core != nil {
		m.core = nil
		if err := m.store.Close(); err != nil {
			c.t.Errorf("%s: %v", m.name, err)
		}
	}
}

// after takes what a step of a voter has produced, unless it stopped within the step.
func (c *cluster) after(m *member) {
	c.t.Helper()
	if m.core == nil {
		return
	}
	m.mu.Lock()
	image := m.image
	m.image = nil
	m.mu.Unlock()
	if image != nil {
		c.down(m)
		m.fs = image
		return
	}
	if m.core.err != nil {
		c.t.Fatalf("%s: %v", m.name, m.core.err)
	}
	out, done := m.core.Take()
	for _, o := range out {
		if !c.cut[[2]antipode.Region{m.name, o.To}] {
			c.wire = append(c.wire, wired{m.name, o})
		}
	}
	for _, d := range done {
		switch {
		case d.Err == nil:
			c.acked[m.acks[d.Ticket]] = true
		case errors.Is(d.Err, control.ErrInvalid):
			c.refused++
		case errors.Is(d.Err, ErrOutcomeUnknown):
			c.unknown = append(c.unknown, m.acks[d.Ticket])
		default:
			c.t.Errorf("%s: proposal %s: %v", m.name, m.acks[d.Ticket], d.Err)
		}
	}
	c.checkState(m)
}

// checkState compares the state with what others had at that index.
func (c *cluster) checkState(m *member) {
	c.t.Helper()
	s := m.core.State()
	b, err := s.Encode()
	if err != nil {
		c.t.Fatal(err)
	}
	if old, ok := c.history[s.Index]; ok && old != string(b) {
		c.t.Fatalf("%s differs at index %d:\n%s", m.name, s.Index, cmp.Diff(old, string(b)))
	}
	c.history[s.Index] = string(b)
}

func (c *cluster) propose(m *member, name string) {
	c.t.Helper()
	t, err := m.core.Propose(putRegion(name))
	if err != nil {
		c.t.Fatalf("%s: %v", m.name, err)
	}
	m.acks[t] = name
	c.after(m)
}

func (c *cluster) deliver(i int) {
	w := c.wire[i]
	c.wire = slices.Delete(c.wire, i, i+1)
	m := c.members[w.To]
	if m.core == nil || c.cut[[2]antipode.Region{w.from, w.To}] {
		return
	}
	_ = m.core.Receive(w.from, w.Data) // the error stays in the core; after sees it
	c.after(m)
}

// run lets n ticks pass, each message taking less than one.
func (c *cluster) run(n int) {
	c.t.Helper()
	for range n {
		for _, v := range c.voters {
			if m := c.members[v]; m.core != nil {
				_ = m.core.Tick()
				c.after(m)
			}
		}
		for limit := 10_000; len(c.wire) > 0 && limit > 0; limit-- {
			c.deliver(0)
		}
	}
}

func (c *cluster) until(what string, ticks int, ok func() bool) {
	c.t.Helper()
	for range ticks {
		if ok() {
			return
		}
		c.run(1)
	}
	if !ok() {
		for _, m := range c.members {
			if m.core != nil {
				c.t.Logf("%+v", m.core.Status())
			}
		}
		c.t.Fatalf("after %d ticks: %s", ticks, what)
	}
}

func (c *cluster) upAll() {
	c.t.Helper()
	for _, v := range c.voters {
		c.up(c.members[v])
	}
}

func (c *cluster) leader() *member {
	for _, v := range c.voters {
		if m := c.members[v]; m.core != nil && m.core.Status().Leader == v {
			return m
		}
	}
	return nil
}

func (c *cluster) has(m *member, name string) bool {
	_, ok := m.core.State().Regions[antipode.Region(name)]
	return ok
}

func (c *cluster) isolate(r antipode.Region, cut bool) {
	for _, v := range c.voters {
		c.cut[[2]antipode.Region{r, v}], c.cut[[2]antipode.Region{v, r}] = cut, cut
	}
}

// wipe stops a voter and takes its disk. What it had sent does not arrive any
// more: a Transport lets a peer's new connection take the place of its old one.
func (c *cluster) wipe(m *member) {
	c.down(m)
	c.wire = slices.DeleteFunc(c.wire, func(w wired) bool { return w.from == m.name })
	m.fs = vfs.NewCrashableMem()
}

func TestFounding(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	for n := 1; n <= 5; n++ {
		voters := append(three(), "sydney", "saopaulo")[:n]
		c := newCluster(t, voters...)
		c.upAll()
		c.until("no leader", 3, func() bool { return c.leader() != nil })
		if got := c.leader().name; got != oregon {
			t.Errorf("%d voters: %s leads, want the first one listed", n, got)
		}
		last := c.members[voters[n-1]]
		c.propose(last, "tokyo")
		c.until("not applied everywhere", 5, func() bool {
			return !slices.ContainsFunc(voters, func(v antipode.Region) bool { return !c.has(c.members[v], "tokyo") })
		})
		if !c.acked["tokyo"] {
			t.Errorf("%d voters: who proposed did not hear of it", n)
		}
	}
}

// TestFoundingByMajority: one voter of three comes later.
func TestFoundingByMajority(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newCluster(t, three()...)
	c.up(c.members[mumbai])
	c.run(100)
	if st := c.members[mumbai].core.Status(); st.Joined || st.Leader != "" {
		t.Fatalf("one of three new voters founded a group: %+v", st)
	}
	c.up(c.members[frankfurt])
	c.until("two of three new voters have no leader", 150, func() bool { return c.leader() != nil })
	c.propose(c.members[frankfurt], "tokyo")
	c.run(5)
	c.up(c.members[oregon])
	c.until("the third voter did not join", 20, func() bool {
		return c.members[oregon].core.Status().Joined && c.has(c.members[oregon], "tokyo")
	})
}

// TestStaticStability: what was agreed is there at once after a restart alone.
func TestStaticStability(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 2)
	c := newCluster(t, three()...)
	c.upAll()
	for i := range 30 { // over the limit for a snapshot, and some
		c.propose(c.members[mumbai], fmt.Sprint("r", i))
		c.run(3)
	}
	c.run(10)
	for _, m := range c.members {
		c.down(m)
	}
	m := c.members[mumbai]
	c.up(m)
	for i := range 30 {
		if !c.has(m, fmt.Sprint("r", i)) {
			t.Fatalf("r%d is missing after a restart alone", i)
		}
	}
	c.run(100)
	st := m.core.Status()
	if err := st.unanswered(); !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "reachable 1 of 3 (mumbai)") {
		t.Errorf("got %v, want ErrNoQuorum that names who is reachable", err)
	}
}

func TestCatchUpBySnapshot(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 3)
	c := newCluster(t, three()...)
	c.upAll()
	c.run(5)
	late := c.members[frankfurt]
	c.isolate(frankfurt, true)
	for i := range 200 {
		c.propose(c.members[mumbai], fmt.Sprint("r", i))
		c.run(2)
	}
	c.isolate(frankfurt, false)
	// The first snapshot is lost on its way.
	lost := 0
	for range 20 {
		for _, m := range c.members {
			_ = m.core.Tick()
			c.after(m)
		}
		for len(c.wire) > 0 {
			if m, _, _ := decodeMessage(c.wire[0].Data); m.GetType() == raftpb.MsgSnap && lost == 0 {
				lost++
				c.wire = c.wire[1:]
				continue
			}
			c.deliver(0)
		}
	}
	if lost == 0 {
		t.Fatal("no snapshot was sent")
	}
	c.until("it has not caught up", 200, func() bool { return c.has(late, "r199") })
	c.propose(late, "after")
	c.until("it can't propose", 20, func() bool { return c.acked["after"] })
}

// TestLostDisk: a voter that lost its disk gets the log again, and does not help
// to elect a leader that lacks what it had acknowledged.
func TestLostDisk(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 4)
	c := newCluster(t, three()...)
	c.upAll()
	c.run(5)
	c.isolate(frankfurt, true)
	c.propose(c.members[oregon], "agreed by oregon and mumbai")
	c.run(5)
	if !c.acked["agreed by oregon and mumbai"] {
		t.Fatal("two of three can't agree")
	}

	// Oregon is out of reach, mumbai has lost its disk, frankfurt never heard of it.
	c.wipe(c.members[mumbai])
	c.isolate(frankfurt, false)
	c.isolate(oregon, true)
	c.up(c.members[mumbai])
	c.run(300)
	for _, v := range []antipode.Region{mumbai, frankfurt} {
		if st := c.members[v].core.Status(); st.Leader == mumbai || st.Leader == frankfurt {
			t.Fatalf("%s follows %s, which lacks what was agreed", v, st.Leader)
		}
	}
	if c.members[mumbai].core.Status().Joined {
		t.Fatal("it votes before it has caught up")
	}

	c.isolate(oregon, false)
	c.until("mumbai has not caught up", 300, func() bool {
		m := c.members[mumbai]
		return m.core.Status().Joined && c.has(m, "agreed by oregon and mumbai")
	})
	// Its requests count from the start again, and are taken all the same.
	c.propose(c.members[mumbai], "again")
	c.until("mumbai can't propose", 50, func() bool { return c.acked["again"] })
	// And now it counts: without frankfurt there is still a majority.
	c.isolate(frankfurt, true)
	c.propose(c.members[mumbai], "by two")
	c.until("it does not count", 100, func() bool { return c.acked["by two"] })
}

// TestLostDiskOfFollower: the leader goes on, and would believe for ever that the
// follower has what it acknowledged.
func TestLostDiskOfFollower(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 5)
	c := newCluster(t, three()...)
	c.upAll()
	for i := range 50 {
		c.propose(c.members[oregon], fmt.Sprint("r", i))
		c.run(2)
	}
	old := vfs.NewCrashableMem() // an older copy of the disk, put back
	for _, v := range []antipode.Region{frankfurt, mumbai} {
		m := c.members[v]
		c.down(m)
		if v == mumbai {
			m.fs = old
		} else {
			m.fs = vfs.NewCrashableMem()
		}
		c.run(3)
		c.up(m)
		c.until(string(v)+" has not caught up", 300, func() bool { return m.core.Status().Joined && c.has(m, "r49") })
		c.until("no leader", 100, func() bool { return c.leader() != nil })
	}
}

// TestLostDiskOfTwo: neither of two voters can elect a leader alone, so the one
// that lost its disk has to vote before it has caught up.
func TestLostDiskOfTwo(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 7)
	for _, lost := range []antipode.Region{oregon, mumbai} {
		c := newCluster(t, oregon, mumbai)
		c.upAll()
		c.propose(c.members[oregon], "agreed")
		c.until("two can't agree", 50, func() bool { return c.acked["agreed"] })
		c.wipe(c.members[lost])
		c.run(100) // the other one leads no more
		c.up(c.members[lost])
		c.until(string(lost)+" has not caught up", 300, func() bool {
			m := c.members[lost]
			return m.core.Status().Joined && c.has(m, "agreed")
		})
		c.propose(c.members[lost], "again")
		c.until("it can't propose", 50, func() bool { return c.acked["again"] })
	}
}

// TestOldCopy: a disk put back from a copy is noticed too.
func TestOldCopy(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 6)
	c := newCluster(t, three()...)
	c.config = func(cfg *Config) { cfg.CompactAfter = 1000 }
	c.upAll()
	c.run(5)
	m := c.members[mumbai]
	copied := m.fs.CrashClone(vfs.CrashCloneCfg{})
	for i := range 10 {
		c.propose(c.members[oregon], fmt.Sprint("r", i))
		c.run(2)
	}
	c.down(m)
	m.fs = copied
	c.up(m)
	c.until("it has not caught up", 300, func() bool { return m.core.Status().Joined && c.has(m, "r9") })
}

func TestRefusedCommand(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 7)
	c := newCluster(t, three()...)
	c.upAll()
	c.run(5)
	m := c.members[frankfurt]
	ticket, err := m.core.Propose(control.Command{DeleteTable: "none"})
	if err != nil {
		t.Fatal(err)
	}
	var got []Result
	for range 5 {
		for _, v := range c.voters {
			_ = c.members[v].core.Tick()
		}
		for _, v := range c.voters {
			out, done := c.members[v].core.Take()
			got = append(got, done...)
			for _, o := range out {
				c.wire = append(c.wire, wired{v, o})
			}
		}
		for len(c.wire) > 0 {
			w := c.wire[0]
			c.wire = c.wire[1:]
			_ = c.members[w.To].core.Receive(w.from, w.Data)
		}
	}
	if len(got) != 1 || got[0].Ticket != ticket || !errors.Is(got[0].Err, control.ErrNoTable) {
		t.Errorf("got %+v, want ErrNoTable for ticket %d", got, ticket)
	}
	if _, err := m.core.Propose(control.Command{CreateTable: &control.Table{Options: json.RawMessage(`"` + strings.Repeat("x", maxCommand) + `"`)}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

// TestNewerEntry: an entry that this version can't read stops the voter, with what
// was agreed before still there.
func TestNewerEntry(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 8)
	c := newCluster(t, oregon)
	c.upAll()
	c.propose(c.members[oregon], "known")
	m := c.members[oregon]
	err := m.core.guard(func() error {
		if err := m.core.node.Propose([]byte(`{"v":1,"from":"mumbai","run":1,"seq":1,"command":{"put_lease":{}}}`)); err != nil {
			return err
		}
		return m.core.drain()
	})
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("got %v, want ErrNewer", err)
	}
	if !errors.Is(m.core.Tick(), ErrNewer) || !c.has(m, "known") {
		t.Error("it should have stopped with its state as it was")
	}
}

// TestPanic: a contradiction in what comes in does not end the process.
func TestPanic(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 9)
	c := newCluster(t, oregon)
	c.upAll()
	c.propose(c.members[oregon], "before")
	m := c.members[oregon]
	if err := m.core.guard(func() error { panic("contradiction") }); err != nil {
		t.Fatal(err)
	}
	c.run(100)
	c.propose(m, "after")
	if !c.has(m, "before") || !c.has(m, "after") {
		t.Error("it did not start again from its log")
	}
}

func TestConfig(t *testing.T) {
	fs := vfs.NewMem()
	store := openStore(t, fs)
	defer store.Close()
	if _, err := OpenCore(Config{Self: oregon, Voters: three(), Store: store}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"not a voter", Config{Self: "tokyo", Voters: three()}, "not among the voters"},
		{"twice", Config{Self: oregon, Voters: append(three(), oregon)}, "listed twice"},
		{"nameless", Config{Self: oregon, Voters: append(three(), "")}, "no name"},
		{"ticks", Config{Self: oregon, Voters: three(), ElectionTicks: 2}, "election ticks"},
		{"another region's data", Config{Self: mumbai, Voters: three()}, "belongs to region oregon"},
		{"other voters", Config{Self: oregon, Voters: three()[:2]}, "founded with the voters"},
	} {
		c.cfg.Store = store
		if _, err := OpenCore(c.cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want ErrConfig with %q", c.name, err, c.want)
		}
	}
	// The order of the voters is no matter.
	reversed := three()
	slices.Reverse(reversed)
	if _, err := OpenCore(Config{Self: oregon, Voters: reversed, Store: store}); err != nil {
		t.Error(err)
	}
}

func TestSession(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s session
	seen := map[uint64]bool{}
	for range 10_000 {
		seq := 1 + rng.Uint64N(30) + s.Max - min(s.Max, 20)
		if rng.IntN(100) == 0 {
			seq += rng.Uint64N(100)
		}
		next, fresh := s.admit(seq)
		if fresh && seen[seq] {
			t.Fatalf("%d was admitted twice", seq)
		}
		if !fresh && !seen[seq] && s.Max < seq+64 {
			t.Fatalf("%d was not admitted, though new and within the window of %d", seq, s.Max)
		}
		seen[seq] = seen[seq] || fresh
		s = next
	}
}

func TestAppliedOnce(t *testing.T) {
	m := newMachine()
	e := entry{From: oregon, Run: 1, Seq: 7, Command: putRegion("tokyo")}
	if fresh, err := m.apply(5, e); !fresh || err != nil {
		t.Fatalf("got %t, %v", fresh, err)
	}
	before := m.state
	if fresh, err := m.apply(6, e); fresh || err != nil || m.state != before {
		t.Errorf("the same request was applied twice")
	}
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeMachine(data)
	if err != nil {
		t.Fatal(err)
	}
	if fresh, _ := again.apply(7, e); fresh {
		t.Error("a snapshot forgets which requests were applied")
	}
}

// TestDiskTruncates: entries of an earlier term that a new leader has overruled
// don't come back from disk.
func TestDiskTruncates(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	d := disk{s}
	blank := &stored{meta: meta{Format: metaFormat}, hard: &raftpb.HardState{Commit: new(uint64(1))}, snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1))}}}
	if err := d.create(blank.meta, blank.hard, blank.snapshot); err != nil {
		t.Fatal(err)
	}
	log := func(term uint64, indexes ...uint64) (out []*raftpb.Entry) {
		for _, i := range indexes {
			out = append(out, &raftpb.Entry{Term: new(term), Index: new(i), Type: raftpb.EntryNormal.Enum()})
		}
		return out
	}
	for _, entries := range [][]*raftpb.Entry{log(1, 2, 3, 4, 5), log(2, 3)} {
		if err := d.save(raft.Ready{Entries: entries}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.load()
	if err != nil {
		t.Fatal(err)
	}
	var terms []uint64
	for _, e := range got.entries {
		terms = append(terms, e.GetTerm())
	}
	if diff := cmp.Diff([]uint64{1, 2}, terms); diff != "" {
		t.Errorf("terms on disk (-want +got):\n%s", diff)
	}
	// A hole is damage, and is said to be.
	if err := d.save(raft.Ready{Entries: log(2, 5)}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.load(); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), "entry 4") {
		t.Errorf("got %v, want ErrCorrupt that names entry 4", err)
	}
	// Nothing but keys below 'r'.
	it, err := s.Iterate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if it.Key()[0] != 'r' {
			t.Errorf("wrote key %q", it.Key())
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}
