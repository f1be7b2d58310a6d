package journal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
)

var (
	oregon = antipode.Origin{Region: "oregon", Incarnation: 1}
	mumbai = antipode.Origin{Region: "mumbai", Incarnation: 2}
	shard  = antipode.ShardSet([]antipode.Region{"oregon", "mumbai"}) | 3
)

func sample() *Entry {
	return &Entry{
		Dot:   antipode.Dot{Origin: oregon, Shard: shard, Seq: 300},
		Stamp: antipode.MakeStamp(1_700_000_000_123, 7), Epoch: 2,
		Context: antipode.Frontier{}.With(mumbai, 41), Uncertainty: 12, Kind: KindWrite,
		Mutation: antipode.Mutation{Table: 5, Key: []byte("k\x00\x01"), Body: []byte(`{"id":{"S":"k"}}`), Home: "oregon"},
		Replaced: antipode.Dot{Origin: mumbai, Shard: shard, Seq: 40},
		From:     "mumbai", Request: []byte("0123456789abcdef"), Prev: Hash{1, 2, 3},
	}
}

// TestEntryGolden pins the bytes: a change here breaks what is on disks.
func TestEntryGolden(t *testing.T) {
	raw := sample().Encode()
	want, err := os.ReadFile("testdata/entry.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(raw); got != string(bytes.TrimSpace(want)) {
		t.Errorf("encoded entry changed:\n got %s\nwant %s", got, want)
	}
	var names Origins
	e, err := names.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), e, cmpopts.IgnoreUnexported(Entry{})); diff != "" {
		t.Error(diff)
	}
}

// handoff is an entry that names its role.
func handoff() *Entry {
	return &Entry{
		Dot:   antipode.Dot{Origin: oregon, Shard: shard, Seq: 301},
		Stamp: antipode.MakeStamp(1_700_000_000_124, 0), Epoch: 3, Kind: KindHandoff,
		Mutation: antipode.Mutation{Table: 5, Key: []byte("k\x00\x01"), Home: "mumbai"}, Role: "paris",
	}
}

// TestHandoffGolden pins the bytes of an entry with a role.
func TestHandoffGolden(t *testing.T) {
	raw := handoff().Encode()
	want, err := os.ReadFile("testdata/handoff.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(raw); got != string(bytes.TrimSpace(want)) {
		t.Errorf("encoded entry changed:\n got %s\nwant %s", got, want)
	}
	var names Origins
	e, err := names.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(handoff(), e, cmpopts.IgnoreUnexported(Entry{})); diff != "" {
		t.Error(diff)
	}
}

// TestEntryFromTheFuture checks that a field and a kind that we don't know pass.
func TestEntryFromTheFuture(t *testing.T) {
	e := sample()
	e.Kind = 77
	raw := append(e.Encode(), 0xa2, 0x06, 3, 'n', 'e', 'w') // field 100, bytes
	var names Origins
	got, err := names.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != 77 || !bytes.Equal(got.Raw(), raw) {
		t.Errorf("kind %v, %d bytes kept of %d", got.Kind, len(got.Raw()), len(raw))
	}
	raw[0] = 2
	if _, err := names.Decode(raw); !errors.Is(err, ErrMalformed) {
		t.Errorf("newer format: %v", err)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(sample().Encode())
	f.Add(handoff().Encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var names Origins
		e, err := names.Decode(raw)
		if err != nil {
			return
		}
		again, err := names.Decode(e.Encode())
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if diff := cmp.Diff(e, again, cmpopts.IgnoreUnexported(Entry{}), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

func open(t *testing.T, fs vfs.FS, o antipode.Origin) *Journal {
	t.Helper()
	store, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	j, err := Open(Config{Store: store, Origin: o, RecentBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func write(t *testing.T, j *Journal, body string) (*Entry, *Commit) {
	t.Helper()
	s := j.Shard(shard)
	s.Lock()
	defer s.Unlock()
	txn := s.Begin(j.NewBatch())
	e := &Entry{Kind: KindWrite, Mutation: antipode.Mutation{Table: 1, Key: []byte("k"), Body: []byte(body)}}
	txn.Append(e)
	c, err := txn.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return e, c
}

func put(j *Journal, e *Entry) error {
	s := j.Shard(shard)
	s.Lock()
	defer s.Unlock()
	txn := s.Begin(j.NewBatch())
	if err := txn.Put(e); err != nil {
		txn.Discard()
		return err
	}
	c, err := txn.Commit()
	if err != nil {
		return err
	}
	return c.Wait()
}

func TestPutChecksOrderContextAndChain(t *testing.T) {
	a := open(t, vfs.NewMem(), oregon)
	b := open(t, vfs.NewMem(), mumbai)
	e1, c := write(t, a, "1")
	if a.Shard(shard).DurableSeq(oregon) != 0 {
		t.Error("durable before the sync")
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if a.Shard(shard).DurableSeq(oregon) != 1 {
		t.Error("not durable after the sync")
	}
	if err := put(b, e1); err != nil {
		t.Fatal(err)
	}
	f1, c := write(t, b, "2")
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if !f1.Saw(e1.Dot) || e1.Saw(f1.Dot) {
		t.Error("context of the second write")
	}
	e2, c := write(t, a, "3")
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	third := open(t, vfs.NewMem(), antipode.Origin{Region: "paris", Incarnation: 1})
	for name, tc := range map[string]struct {
		e    *Entry
		want error
	}{
		"gap":         {e2, ErrGap},
		"not covered": {f1, ErrNotCovered},
	} {
		if err := put(third, tc.e); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := put(a, e1); !errors.Is(err, ErrOwnEcho) {
		t.Errorf("own echo: %v", err)
	}
	forged := *e2
	forged.Prev = Hash{9}
	forged.Encode()
	if err := put(b, &forged); !errors.Is(err, ErrForked) {
		t.Errorf("fork: %v", err)
	}
	if err := put(b, e2); err != nil {
		t.Error(err)
	}
}

// TestCrash crashes at random and checks that the journal comes back with all
// that was waited for, as a prefix of what was written, and goes on from there.
func TestCrash(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		fs := vfs.NewCrashableMem()
		j := open(t, fs, oregon)
		acked := uint64(0)
		for range rng.IntN(60) {
			e, c := write(t, j, "body")
			if rng.IntN(2) == 0 {
				if err := c.Wait(); err != nil {
					t.Fatal(err)
				}
				acked = e.Dot.Seq
			}
		}
		written := j.Shard(shard).Applied().Seq(oregon)
		j2 := open(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}), oregon)
		got := j2.Shard(shard).Durable().Seq(oregon)
		if got < acked || got > written {
			t.Fatalf("seed %d: %d of %d written came back, %d were acknowledged", seed, got, written, acked)
		}
		n := uint64(0)
		if err := j2.Read(shard, oregon, 0, got, func(seq uint64, _ []byte) bool { n++; return seq == n }); err != nil || n != got {
			t.Fatalf("seed %d: read %d of %d: %v", seed, n, got, err)
		}
		e, c := write(t, j2, "after")
		if err := c.Wait(); err != nil || e.Dot.Seq != got+1 {
			t.Fatalf("seed %d: next sequence %d after %d: %v", seed, e.Dot.Seq, got, err)
		}
	}
}

func TestReadRecentAndOld(t *testing.T) {
	j := open(t, vfs.NewMem(), oregon)
	for range 100 {
		_, c := write(t, j, "0123456789012345678901234567890123456789")
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []uint64{0, 1, 50, 97, 98, 99, 100} {
		want := after
		if err := j.Read(shard, oregon, after, 99, func(seq uint64, _ []byte) bool { want++; return seq == want }); err != nil || want != max(after, 99) {
			t.Errorf("read after %d ended at %d: %v", after, want, err)
		}
	}
}

func TestWait(t *testing.T) {
	j := open(t, vfs.NewMem(), oregon)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 2)
	go func() { done <- j.WaitApplied(ctx, shard, oregon, 1) }()
	go func() { done <- j.Shard(shard).WaitDurable(ctx, 1) }()
	_, c := write(t, j, "x")
	if err := errors.Join(c.Wait(), <-done, <-done); err != nil {
		t.Error(err)
	}
	cancel()
	if err := j.WaitApplied(ctx, shard, mumbai, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("wait for what never comes: %v", err)
	}
}

// TestStable checks the rule that an acknowledgement counts only once what its
// sender wrote before it is applied here.
func TestStable(t *testing.T) {
	a, b := open(t, vfs.NewMem(), oregon), open(t, vfs.NewMem(), mumbai)
	e, c := write(t, a, "1")
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	f, c := write(t, b, "2")
	if err := errors.Join(c.Wait(), put(b, e)); err != nil {
		t.Fatal(err)
	}
	members := []antipode.Region{"oregon", "mumbai"}
	sh := a.Shard(shard)
	if got := sh.Stable(members); got != nil {
		t.Errorf("stable without an acknowledgement: %v", got)
	}
	sh.Acked("mumbai", b.Shard(shard).Durable())
	if got := sh.Stable(members); len(got) != 0 {
		t.Errorf("stable before mumbai's own write arrived: %v", got)
	}
	if err := put(a, f); err != nil {
		t.Fatal(err)
	}
	want := antipode.Frontier{}.With(oregon, 1).With(mumbai, 1)
	if diff := cmp.Diff(want, sh.Stable(members)); diff != "" {
		t.Error(diff)
	}
}

func TestCorruptKey(t *testing.T) {
	fs := vfs.NewMem()
	store, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	b := store.NewBatch()
	b.Set([]byte("jxx"), []byte("?"))
	if _, err := store.Apply(b); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Store: store, Origin: oregon}); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("open over a bad key: %v", err)
	}
}
