package journal

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
)

// TestCopied checks from when on so many members are known to hold an own entry,
// that this never falls, wakes who waits, and outlives a crash once it was kept.
func TestCopied(t *testing.T) {
	fs := vfs.NewCrashableMem()
	a := open(t, fs, oregon)
	for range 5 {
		_, c := write(t, a, "x")
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	sh := a.Shard(shard)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 3)
	go func() { done <- sh.WaitCopied(ctx, 1, 3, nil) }()
	go func() { done <- sh.WaitCopied(ctx, 2, 2, nil) }()
	at := func(seq uint64) antipode.Frontier { return antipode.Frontier{}.With(oregon, seq) }
	for _, tc := range []struct {
		member       antipode.Region
		holds        uint64
		one, two, on uint64
	}{
		{"mumbai", 1, 1, 0, 0},
		{"paris", 3, 3, 1, 0},
		{"mumbai", 2, 3, 2, 0},
		{"mumbai", 0, 3, 2, 0}, // it lost its disk
		{"tokyo", 5, 5, 3, 0},
		{"mumbai", 4, 5, 4, 3},
	} {
		sh.Acked(tc.member, at(tc.holds))
		if one, two, three := sh.Copied(1), sh.Copied(2), sh.Copied(3); one != tc.one || two != tc.two || three != tc.on {
			t.Errorf("%s has %d: on one %d, two %d, three %d; want %d, %d, %d", tc.member, tc.holds, one, two, three, tc.one, tc.two, tc.on)
		}
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Error(err)
	}
	enough := false
	go func() { done <- sh.WaitCopied(ctx, 3, 5, func() bool { return enough }) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("wait for what never comes: %v", err)
	}

	if err := a.KeepCopied(); err != nil {
		t.Fatal(err)
	}
	_, c := write(t, a, "y") // durable after what was kept before it
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	sh.Acked("paris", at(6))
	b := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), oregon)
	if one, two, four := b.Shard(shard).Copied(1), b.Shard(shard).Copied(2), b.Shard(shard).Copied(4); one != 5 || two != 4 || four != 0 {
		t.Errorf("after a crash: on one %d, two %d, four %d", one, two, four)
	}
	b.Shard(shard).Acked("paris", at(6))
	if one, two := b.Shard(shard).Copied(1), b.Shard(shard).Copied(2); one != 6 || two != 4 {
		t.Errorf("after a report: on one %d, two %d", one, two)
	}
	other := antipode.Origin{Region: "oregon", Incarnation: 2}
	if n := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), other).Shard(shard).Copied(1); n != 0 {
		t.Errorf("a new incarnation believes that others hold %d of its entries", n)
	}
}
