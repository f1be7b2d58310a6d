package hlc

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/antipode-io/antipode"
)

// fakeWall is a wall clock that tests set. Its times carry no monotonic reading.
type fakeWall struct{ ms atomic.Int64 }

func wallAt(ms int64) *fakeWall {
	w := &fakeWall{}
	w.ms.Store(ms)
	return w
}

func (w *fakeWall) now() time.Time        { return time.UnixMilli(w.ms.Load()).UTC() }
func (w *fakeWall) move(by time.Duration) { w.ms.Add(by.Milliseconds()) }

// store is where ceilings are kept; it can fail.
type store struct {
	ceiling antipode.Stamp
	calls   int
	err     error
}

func (s *store) persist(c antipode.Stamp) error {
	s.calls++
	if s.err != nil {
		return s.err
	}
	s.ceiling = c
	return nil
}

const start = 1_800_000_000_000

func newClock(t testing.TB, cfg Config) *Clock {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func now(t testing.TB, c *Clock) antipode.Stamp {
	t.Helper()
	s, err := c.Now()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNowFollowsTheWall(t *testing.T) {
	w := wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	for i := range 3 {
		if got, want := now(t, c), antipode.MakeStamp(start, uint16(i)); got != want {
			t.Errorf("stamp %d is %s, want %s", i, got, want)
		}
	}
	w.move(5 * time.Millisecond)
	if got, want := now(t, c), antipode.MakeStamp(start+5, 0); got != want {
		t.Errorf("after 5 ms the stamp is %s, want %s", got, want)
	}
}

func TestCounterOverflowMovesTheMillisecond(t *testing.T) {
	c := newClock(t, Config{Wall: wallAt(start).now})
	if err := c.Update(antipode.MakeStamp(start, math.MaxUint16)); err != nil {
		t.Fatal(err)
	}
	if got, want := now(t, c), antipode.MakeStamp(start+1, 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestProperties drives a clock at random: whatever the wall does, whatever
// comes in, whenever the disk fails or the process dies, stamps rise, stay below
// the durable ceiling and above what was received.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, disk := wallAt(start), &store{}
		cfg := Config{Wall: w.now, Persist: disk.persist, Step: time.Duration(rapid.IntRange(2, 5000).Draw(t, "step")) * time.Millisecond}
		open := func() *Clock {
			cfg.Ceiling = disk.ceiling
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := open()
		var high antipode.Stamp
		t.Repeat(map[string]func(*rapid.T){
			"now": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					s, err := c.Now()
					if err != nil {
						if disk.err == nil {
							t.Fatal(err)
						}
						return
					}
					if s <= high {
						t.Fatalf("%s after %s", s, high)
					}
					if s >= disk.ceiling {
						t.Fatalf("%s was given out, the durable ceiling is %s", s, disk.ceiling)
					}
					high = s
				}
			},
			"tick":  func(t *rapid.T) { w.move(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond) },
			"set":   func(t *rapid.T) { w.move(time.Duration(rapid.IntRange(-60, 60).Draw(t, "min")) * time.Minute) },
			"epoch": func(*rapid.T) { w.ms.Store(-5) },
			"receive": func(t *rapid.T) {
				s := antipode.MakeStamp(w.ms.Load()+int64(rapid.IntRange(-1000, 1000).Draw(t, "ms")), uint16(rapid.IntRange(0, 65535).Draw(t, "counter")))
				if w.ms.Load() < 2000 {
					return
				}
				if err := c.Update(s); err != nil && disk.err == nil {
					if !errors.Is(err, ErrFuture) {
						t.Fatal(err)
					}
				}
				if disk.err == nil {
					high = max(high, s) // and must survive a crash
				}
			},
			"extend": func(t *rapid.T) {
				if err := c.Extend(); err != nil && disk.err == nil {
					t.Fatal(err)
				}
			},
			"break disk": func(*rapid.T) { disk.err = errors.New("disk full") },
			"mend disk":  func(*rapid.T) { disk.err = nil },
			"crash":      func(*rapid.T) { disk.err = nil; c = open() },
			"stop": func(t *rapid.T) {
				disk.err = nil
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Now(); !errors.Is(err, ErrClosed) {
					t.Fatalf("Now after Close: %v", err)
				}
				if last := c.Last(); disk.ceiling != last+1 {
					t.Fatalf("clean stop left the ceiling at %s, last stamp %s", disk.ceiling, last)
				}
				c = open()
			},
		})
	})
}

func TestConcurrentStampsAreUnique(t *testing.T) {
	disk := &store{}
	c := newClock(t, Config{Persist: disk.persist, Step: 2 * time.Millisecond})
	const writers, each = 8, 5000
	got := make([][]antipode.Stamp, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range each {
				s, err := c.Now()
				if err != nil {
					t.Error(err)
					return
				}
				got[i] = append(got[i], s)
			}
		})
	}
	wg.Wait()
	seen := map[antipode.Stamp]bool{}
	for _, stamps := range got {
		var last antipode.Stamp
		for _, s := range stamps {
			if seen[s] || s <= last {
				t.Fatalf("stamp %s twice, or after %s", s, last)
			}
			seen[s], last = true, s
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d stamps, want %d", len(seen), writers*each)
	}
}

// TestPersistDoesNotStallOthers: while one call moves the ceiling on, others get
// stamps below the old one.
func TestPersistDoesNotStallOthers(t *testing.T) {
	w := wallAt(start)
	entered, leave := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	c := newClock(t, Config{Wall: w.now, Persist: func(antipode.Stamp) error {
		if calls.Add(1) == 2 {
			close(entered)
			<-leave
		}
		return nil
	}})
	w.move(600 * time.Millisecond)
	done := make(chan error)
	go func() {
		_, err := c.Now()
		done <- err
	}()
	<-entered
	for range 100 {
		now(t, c)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("the ceiling was persisted %d times, want 2", n)
	}
}

func TestPersistIsRare(t *testing.T) {
	w, disk := wallAt(start), &store{}
	c := newClock(t, Config{Wall: w.now, Persist: disk.persist})
	for range 60_000 {
		w.move(time.Millisecond)
		now(t, c)
	}
	if disk.calls < 60 || disk.calls > 130 {
		t.Errorf("%d ceilings in a minute of writing, want one each half second", disk.calls)
	}
}

func TestCrashLoopDoesNotRunAway(t *testing.T) {
	w, disk := wallAt(start), &store{}
	for range 20 {
		c := newClock(t, Config{Wall: w.now, Persist: disk.persist, Ceiling: disk.ceiling})
		now(t, c)
	}
	if ahead := disk.ceiling.Time().Sub(w.now()); ahead > 4*time.Second {
		t.Errorf("after 20 crashes in no time the ceiling is %v ahead", ahead)
	}
}

func TestBrokenDisk(t *testing.T) {
	w, disk := wallAt(start), &store{}
	c := newClock(t, Config{Wall: w.now, Persist: disk.persist})
	disk.err = errors.New("disk full")
	w.move(700 * time.Millisecond) // beyond half: the failure can wait
	for range 1000 {
		now(t, c)
	}
	if disk.calls > 3 {
		t.Errorf("%d tries at a broken disk for 1000 stamps of one millisecond", disk.calls)
	}
	w.move(time.Second)
	if _, err := c.Now(); !errors.Is(err, disk.err) {
		t.Errorf("beyond the ceiling: %v, want %v", err, disk.err)
	}
	if err := c.Update(antipode.MakeStamp(start+5000, 0)); err == nil {
		t.Error("Update did not tell that the ceiling is stuck")
	}
	if c.Last() != antipode.MakeStamp(start+5000, 0) {
		t.Error("Update dropped the stamp")
	}
	disk.err = nil
	if s := now(t, c); s <= antipode.MakeStamp(start+5000, 0) || s >= disk.ceiling {
		t.Errorf("after the disk came back: stamp %s, ceiling %s", s, disk.ceiling)
	}
}

func TestUpdateReportsTheFuture(t *testing.T) {
	w := wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	if err := c.Update(antipode.MakeStamp(start+400, 0)); err != nil {
		t.Errorf("400 ms ahead: %v", err)
	}
	far := antipode.MakeStamp(start+3_600_000, 7)
	err := c.Update(far)
	if !errors.Is(err, ErrFuture) {
		t.Errorf("an hour ahead: %v", err)
	}
	t.Log(err)
	if s := now(t, c); s != far+1 {
		t.Errorf("next stamp %s, want %s", s, far+1)
	}
	if got := c.Lead(); got != time.Hour {
		t.Errorf("Lead() = %v", got)
	}
	if err := c.Update(math.MaxUint64); !errors.Is(err, ErrFuture) {
		t.Errorf("garbage: %v", err)
	}
	if s := now(t, c); s != far+2 {
		t.Errorf("garbage moved the clock to %s", s)
	}
}

func TestWallJumps(t *testing.T) {
	w := wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	before := now(t, c)
	w.move(-time.Hour)
	back := now(t, c)
	if back <= before || back.Millis() != start {
		t.Errorf("set back: %s after %s", back, before)
	}
	w.move(2 * time.Hour)
	if ahead := now(t, c); ahead.Millis() != start+3_600_000 {
		t.Errorf("set forward: %s", ahead)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{{MaxAhead: -1}, {Step: 1}, {Ceiling: math.MaxUint64}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%+v) went through", cfg)
		}
	}
	bad := errors.New("read-only file system")
	if _, err := New(Config{Persist: func(antipode.Stamp) error { return bad }}); !errors.Is(err, bad) {
		t.Errorf("New on a broken disk: %v", err)
	}
}

// TestInBubble runs on time.Now in a synctest bubble.
func TestInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(t, Config{})
		a := now(t, c)
		time.Sleep(time.Hour)
		b := now(t, c)
		if got := b.Time().Sub(a.Time()); got != time.Hour {
			t.Errorf("an hour of virtual time moved stamps by %v", got)
		}
		c.Observe("mumbai", time.Now().Add(-2*time.Second), 200*time.Millisecond)
		if err := c.Check(); !errors.Is(err, ErrAhead) {
			t.Errorf("2 s ahead: %v", err)
		}
		time.Sleep(staleAfter + time.Second)
		if err := c.Check(); err != nil {
			t.Errorf("nobody heard for 31 s: %v", err)
		}
	})
}

func BenchmarkNow(b *testing.B) {
	c := newClock(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		now(b, c)
	}
}

func BenchmarkNowParallel(b *testing.B) {
	c := newClock(b, Config{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			now(b, c)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	c := newClock(b, Config{})
	for i := range 4 {
		c.Observe(antipode.Region(fmt.Sprint("r", i)), time.Now(), time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Check(); err != nil {
			b.Fatal(err)
		}
	}
}
