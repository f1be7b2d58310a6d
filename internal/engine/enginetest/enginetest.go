// Package enginetest is the conformance suite that every engine.Store passes.
// Only tests import it.
package enginetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode/internal/engine"
)

// Open opens the store in directory dir of fs, and makes it when there is none.
// The suite closes it.
type Open func(tb testing.TB, fs vfs.FS, dir string) engine.Store

// home is where the suite's stores are.
const home = "data/store"

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Get", testGet},
		{"Batch", testBatch},
		{"EmptyBatch", testEmptyBatch},
		{"Later", testLater},
		{"LargeBatch", testLargeBatch},
		{"Iterate", testIterate},
		{"DeleteRange", testDeleteRange},
		{"Snapshot", testSnapshot},
		{"Checkpoint", testCheckpoint},
		{"VisibleBeforeDurable", testVisibleBeforeDurable},
		{"ConcurrentWriters", testConcurrentWriters},
		{"Closed", testClosed},
		{"Crash", testCrash},
		{"DiskFailure", testDiskFailure},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
	t.Run("Bubble", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { testBubble(t, open) })
	})
}

func put(tb testing.TB, s engine.Store, pairs ...string) {
	tb.Helper()
	b := s.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	commit(tb, s, b)
}

func commit(tb testing.TB, s engine.Store, b engine.Batch) {
	tb.Helper()
	c, err := s.Apply(b)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		tb.Fatalf("commit: %v", err)
	}
}

func closeStore(tb testing.TB, s engine.Store) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Fatalf("close: %v", err)
	}
}

// dump lists "key=value" in [lower, upper) and checks that both directions agree.
func dump(tb testing.TB, r engine.Reader, lower, upper []byte) []string {
	tb.Helper()
	it, err := r.Iterate(lower, upper)
	if err != nil {
		tb.Fatalf("iterate: %v", err)
	}
	out, back := []string{}, []string{}
	for ok := it.First(); ok; ok = it.Next() {
		out = append(out, string(it.Key())+"="+string(it.Value()))
	}
	for ok := it.Last(); ok; ok = it.Prev() {
		back = append([]string{string(it.Key()) + "=" + string(it.Value())}, back...)
	}
	if err := it.Close(); err != nil {
		tb.Fatalf("iterate: %v", err)
	}
	if diff := cmp.Diff(out, back); diff != "" {
		tb.Fatalf("forwards (-) and backwards (+) differ:\n%s", diff)
	}
	return out
}

func want(tb testing.TB, r engine.Reader, pairs ...string) {
	tb.Helper()
	if pairs == nil {
		pairs = []string{}
	}
	if diff := cmp.Diff(pairs, dump(tb, r, nil, nil)); diff != "" {
		tb.Fatalf("contents (-want +got):\n%s", diff)
	}
}

func testGet(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	defer closeStore(t, s)
	if _, err := s.Get(nil, []byte("none")); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("missing key: got %v, want ErrNotFound", err)
	}
	put(t, s, "k", "value", "\x00\xff", "", "\xff\xff", "top")
	for _, c := range []struct{ dst, key, want string }{
		{"", "k", "value"}, {"before ", "k", "before value"}, {"", "\x00\xff", ""}, {"", "\xff\xff", "top"},
	} {
		got, err := s.Get([]byte(c.dst), []byte(c.key))
		if err != nil || string(got) != c.want {
			t.Errorf("get %q: got %q, %v; want %q", c.key, got, err, c.want)
		}
	}
}

func testBatch(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	defer closeStore(t, s)
	put(t, s, "a", "0", "b", "0", "c", "0")
	b := s.NewBatch()
	b.Set([]byte("a"), []byte("1"))
	b.Set([]byte("a"), []byte("2"))
	b.Delete([]byte("b"))
	b.Delete([]byte("c"))
	b.Set([]byte("c"), []byte("3"))
	b.Set([]byte("d"), []byte("4"))
	b.Delete([]byte("d"))
	if b.Len() == 0 {
		t.Error("a batch with writes has no length")
	}
	want(t, s, "a=0", "b=0", "c=0") // nothing before Apply
	commit(t, s, b)
	want(t, s, "a=2", "c=3")
	lost := s.NewBatch()
	lost.Set([]byte("z"), []byte("9"))
	lost.Discard()
	want(t, s, "a=2", "c=3")

	// The batch does not keep the caller's memory.
	key, value := []byte("key"), []byte("value")
	b = s.NewBatch()
	b.Set(key, value)
	copy(key, "xxx")
	copy(value, "yyyyy")
	commit(t, s, b)
	if got, err := s.Get(nil, []byte("key")); err != nil || string(got) != "value" {
		t.Errorf("after the caller's memory changed: got %q, %v", got, err)
	}
}

// testEmptyBatch: its Wait still implies that what came before is durable.
func testEmptyBatch(t *testing.T, open Open) {
	fs := vfs.NewCrashableMem()
	s := open(t, fs, home)
	defer closeStore(t, s)
	b := s.NewBatch()
	b.Set([]byte("before"), []byte("1"))
	c, err := s.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, s.NewBatch())
	crashed := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), home)
	want(t, crashed, "before=1")
	closeStore(t, crashed)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
}

// testLater: what is left to a later Apply is visible at once, and durable with it.
func testLater(t *testing.T, open Open) {
	fs := vfs.NewCrashableMem()
	s := open(t, fs, home)
	defer closeStore(t, s)
	later := func(key string) {
		b := s.NewBatch()
		b.Set([]byte(key), []byte("1"))
		if err := s.ApplyLater(b); err != nil {
			t.Fatal(err)
		}
	}
	later("a")
	if err := s.ApplyLater(s.NewBatch()); err != nil {
		t.Fatal(err)
	}
	want(t, s, "a=1")
	put(t, s, "b", "1")
	later("c")
	commit(t, s, s.NewBatch())
	later("d")
	want(t, s, "a=1", "b=1", "c=1", "d=1")

	crashed := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), home)
	defer closeStore(t, crashed)
	got := dump(t, crashed, nil, nil)
	if n := min(len(got), 3); !cmp.Equal(got[:n], []string{"a=1", "b=1", "c=1"}) {
		t.Errorf("after a crash: got %q, want all that came before the last wait", got)
	}
}

func testLargeBatch(t *testing.T, open Open) {
	fs := vfs.NewMem()
	s := open(t, fs, home)
	value := strings.Repeat("v", 1<<20)
	b := s.NewBatch()
	for i := range 40 {
		b.Set(fmt.Appendf(nil, "k%02d", i), []byte(value))
	}
	commit(t, s, b)
	put(t, s, "small", "1")
	closeStore(t, s)
	s = open(t, fs, home)
	defer closeStore(t, s)
	if got := len(dump(t, s, nil, nil)); got != 41 {
		t.Errorf("after a batch of 40 MiB: %d keys, want 41", got)
	}
}

func testIterate(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	defer closeStore(t, s)
	put(t, s, "b", "1", "a\x00", "2", "a", "3", "\xff", "4", "c", "5", "ab", "6", "\x00", "7")
	want(t, s, "\x00=7", "a=3", "a\x00=2", "ab=6", "b=1", "c=5", "\xff=4")
	for _, c := range []struct {
		lower, upper string
		want         []string
	}{
		{"a", "b", []string{"a=3", "a\x00=2", "ab=6"}},
		{"a\x00", "c", []string{"a\x00=2", "ab=6", "b=1"}},
		{"c", "", []string{"c=5", "\xff=4"}},
		{"d", "e", []string{}},
	} {
		upper := []byte(c.upper)
		if c.upper == "" {
			upper = nil
		}
		if diff := cmp.Diff(c.want, dump(t, s, []byte(c.lower), upper)); diff != "" {
			t.Errorf("[%q, %q) (-want +got):\n%s", c.lower, c.upper, diff)
		}
	}
	it, err := s.Iterate([]byte("a"), []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	if it.Valid() {
		t.Error("a new iterator is valid before it was moved")
	}
	step := func(what string, ok bool, key string) {
		t.Helper()
		if ok != (key != "") || ok != it.Valid() || (ok && string(it.Key()) != key) {
			t.Fatalf("%s: got %t at %q, want %q", what, ok, it.Key(), key)
		}
	}
	step("SeekGE(aa)", it.SeekGE([]byte("aa")), "ab")
	step("Prev", it.Prev(), "a\x00")
	step("Next", it.Next(), "ab")
	step("SeekLT(ab)", it.SeekLT([]byte("ab")), "a\x00")
	step("SeekGE(below)", it.SeekGE([]byte("\x00")), "a")
	step("Prev over the start", it.Prev(), "")
	step("Next from before the start", it.Next(), "a")
	step("SeekLT(above)", it.SeekLT([]byte("z")), "b")
	step("Next over the end", it.Next(), "")
	step("Prev from after the end", it.Prev(), "b")
	step("SeekGE(end)", it.SeekGE([]byte("bb")), "")

	// What is written after Iterate is not seen by it.
	put(t, s, "aa", "new")
	step("SeekGE(aa) again", it.SeekGE([]byte("aa")), "ab")
	if err := it.Close(); err != nil {
		t.Error(err)
	}
}

func testDeleteRange(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	defer closeStore(t, s)
	put(t, s, "a", "1", "b", "1", "c", "1", "d", "1")
	b := s.NewBatch()
	b.Set([]byte("bb"), []byte("gone"))
	b.DeleteRange([]byte("b"), []byte("d"))
	b.Set([]byte("c"), []byte("2"))
	commit(t, s, b)
	want(t, s, "a=1", "c=2", "d=1")
	b = s.NewBatch()
	b.DeleteRange([]byte("d"), []byte("a")) // empty ranges delete nothing
	b.DeleteRange([]byte("a"), []byte("a"))
	commit(t, s, b)
	want(t, s, "a=1", "c=2", "d=1")
}

func testSnapshot(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	defer closeStore(t, s)
	put(t, s, "a", "1", "b", "1")
	snap := s.Snapshot()
	b := s.NewBatch()
	b.DeleteRange([]byte("a"), []byte("c"))
	b.Set([]byte("b"), []byte("2"))
	commit(t, s, b)
	want(t, snap, "a=1", "b=1")
	if got, err := snap.Get(nil, []byte("b")); err != nil || string(got) != "1" {
		t.Errorf("snapshot: got %q, %v; want 1", got, err)
	}
	want(t, s, "b=2")
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
}

func testCheckpoint(t *testing.T, open Open) {
	fs := vfs.NewCrashableMem()
	s := open(t, fs, home)
	defer closeStore(t, s)
	put(t, s, "a", "1")
	b := s.NewBatch()
	b.Set([]byte("b"), []byte("not waited for"))
	c, err := s.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "c", "later")
	if err := s.Checkpoint("copy"); err == nil {
		t.Error("a checkpoint over another was not refused")
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	// It is durable, and a store of its own.
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	copied := open(t, crashed, "copy")
	defer closeStore(t, copied)
	want(t, copied, "a=1", "b=not waited for")
	put(t, copied, "d", "own")
	want(t, s, "a=1", "b=not waited for", "c=later")
}

func testVisibleBeforeDurable(t *testing.T, open Open) {
	fs := newFaultFS(vfs.NewMem())
	s := open(t, fs, home)
	defer closeStore(t, s)
	put(t, s, "a", "1")
	release := fs.holdSyncs()
	b := s.NewBatch()
	b.Set([]byte("b"), []byte("2"))
	c, err := s.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	var durable atomic.Bool
	done := make(chan error)
	go func() {
		err := c.Wait()
		durable.Store(true)
		done <- err
	}()
	want(t, s, "a=1", "b=2")
	if durable.Load() {
		t.Error("a batch was called durable before the disk had synced")
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func testConcurrentWriters(t *testing.T, open Open) {
	fs := vfs.NewMem()
	s := open(t, fs, home)
	const writers, each = 16, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b := s.NewBatch()
				b.Set(fmt.Appendf(nil, "own/%02d", w), fmt.Appendf(nil, "%d", i))
				b.Set([]byte("shared/1"), fmt.Appendf(nil, "%d/%d", w, i))
				b.Set([]byte("shared/2"), fmt.Appendf(nil, "%d/%d", w, i))
				c, err := s.Apply(b)
				if err == nil {
					err = c.Wait()
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				snap := s.Snapshot()
				one, _ := snap.Get(nil, []byte("shared/1"))
				two, _ := snap.Get(nil, []byte("shared/2"))
				if string(one) != string(two) {
					t.Errorf("half a batch is visible: %q and %q", one, two)
				}
				_ = snap.Close()
			}
		})
	}
	wg.Wait()
	closeStore(t, s)
	s = open(t, fs, home)
	defer closeStore(t, s)
	for w := range writers {
		if got, err := s.Get(nil, fmt.Appendf(nil, "own/%02d", w)); err != nil || string(got) != "99" {
			t.Errorf("writer %d: got %q, %v; want 99", w, got, err)
		}
	}
}

func testClosed(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	put(t, s, "a", "1")
	b := s.NewBatch()
	b.Set([]byte("b"), []byte("2"))
	closeStore(t, s)
	_, getErr := s.Get(nil, []byte("a"))
	_, iterErr := s.Iterate(nil, nil)
	_, applyErr := s.Apply(b)
	laterErr := s.ApplyLater(s.NewBatch())
	snap := s.Snapshot()
	_, snapErr := snap.Get(nil, []byte("a"))
	for what, err := range map[string]error{
		"Get": getErr, "Iterate": iterErr, "Apply": applyErr, "ApplyLater": laterErr, "Snapshot": snapErr, "Snapshot.Close": snap.Close(),
		"Checkpoint": s.Checkpoint("copy"), "Close": s.Close(),
	} {
		if !errors.Is(err, engine.ErrClosed) {
			t.Errorf("%s after Close: got %v, want ErrClosed", what, err)
		}
	}
}

// testBubble: timers and waits inside a store are durably blocking, so that the
// clock of a synctest bubble moves on.
func testBubble(t *testing.T, open Open) {
	s := open(t, vfs.NewMem(), home)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				time.Sleep(time.Second + time.Duration(rand.IntN(1000))*time.Millisecond)
				put(t, s, fmt.Sprintf("%d", w), fmt.Sprintf("%d", i))
			}
		})
	}
	wg.Wait()
	want(t, s, "0=99", "1=99", "2=99", "3=99")
	closeStore(t, s)
}
