package enginetest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/antipode-io/antipode/internal/engine"
)

// ErrInjected is the failure of the disk that the suite makes.
var ErrInjected = errors.New("injected failure of the disk")

// faultFS is a file system whose syncs can be held up and whose writes can be
// made to fail.
type faultFS struct {
	*errorfs.FS
	hold  atomic.Pointer[chan struct{}]
	after atomic.Int64 // writes still let through once failing
	fail  atomic.Bool
}

func newFaultFS(inner vfs.FS) *faultFS {
	f := &faultFS{}
	f.FS = errorfs.Wrap(inner, errorfs.InjectorFunc(f.maybe))
	return f
}

func (f *faultFS) maybe(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		if hold := f.hold.Load(); hold != nil {
			<-*hold
		}
	default:
	}
	if f.fail.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && f.after.Add(-1) < 0 {
		return ErrInjected
	}
	return nil
}

// holdSyncs makes syncs wait until the returned function is called.
func (f *faultFS) holdSyncs() (release func()) {
	hold := make(chan struct{})
	f.hold.Store(&hold)
	return func() {
		f.hold.Store(nil)
		close(hold)
	}
}

// failAfter makes everything that changes the disk fail after n more such calls.
func (f *faultFS) failAfter(n int64) {
	f.after.Store(n)
	f.fail.Store(true)
}

// testCrash: several writers commit numbered batches; at random moments the
// machine stops. Whatever was acknowledged is there, each batch is there whole,
// and no batch is there without all that were applied before it.
func testCrash(t *testing.T, open Open) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			fs := vfs.NewCrashableMem()
			for range 3 { // lives
				fs = crashOnce(t, open, fs, rng)
			}
		})
	}
}

// crashOnce runs one life on fs and returns what its crash leaves.
func crashOnce(t *testing.T, open Open, fs *vfs.MemFS, rng *rand.Rand) *vfs.MemFS {
	t.Helper()
	s := open(t, fs, home)
	next := checkWhole(t, s)
	var mu sync.Mutex // orders Apply with the numbering
	var acked atomic.Int64
	acked.Store(next - 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				n := next
				next++
				b := s.NewBatch()
				for part := range 3 {
					b.Set(fmt.Appendf(nil, "%08d/%d", n, part), make([]byte, 1000))
				}
				b.Set([]byte("last"), strconv.AppendInt(nil, n, 10))
				c, err := s.Apply(b)
				mu.Unlock()
				if err == nil {
					err = c.Wait()
				}
				if err != nil {
					t.Errorf("batch %d: %v", n, err)
					return
				}
				for old := acked.Load(); old < n && !acked.CompareAndSwap(old, n); old = acked.Load() {
				}
			}
		})
	}
	target := acked.Load() + 20 + rng.Int64N(400)
	for acked.Load() < target && !t.Failed() {
		runtime.Gosched()
	}
	promised := acked.Load()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	close(stop)
	wg.Wait()
	closeStore(t, s)

	again := open(t, crashed, home)
	if last := checkWhole(t, again) - 1; last < promised {
		t.Errorf("batch %d was acknowledged; after the crash the last one is %d", promised, last)
	}
	closeStore(t, again)
	return crashed
}

// checkWhole checks that the batches from 0 to some number are there, whole, and
// returns the number after it.
func checkWhole(t *testing.T, s engine.Store) int64 {
	t.Helper()
	last := int64(-1)
	if v, err := s.Get(nil, []byte("last")); err == nil {
		last, _ = strconv.ParseInt(string(v), 10, 64)
	}
	it, err := s.Iterate(nil, []byte("last"))
	if err != nil {
		t.Fatal(err)
	}
	parts := int64(0)
	for ok := it.First(); ok; ok = it.Next() {
		if got, want := string(it.Key()), fmt.Sprintf("%08d/%d", parts/3, parts%3); got != want {
			t.Fatalf("found %s where %s should be", got, want)
		}
		parts++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if parts != 3*(last+1) {
		t.Fatalf("the last batch is %d, but %d parts are there", last, parts)
	}
	return last + 1
}

// testDiskFailure: the disk fails all writes from some moment on. Nothing is
// acknowledged after it, the process lives, and what was acknowledged before is
// there when the disk is well again.
func testDiskFailure(t *testing.T, open Open) {
	for after := range int64(30) {
		inner := vfs.NewCrashableMem()
		fs := newFaultFS(inner)
		s := open(t, fs, home)
		put(t, s, "n", "0")
		fs.failAfter(after)
		acked, failed := 0, 0
		for i := 1; i <= 200 && failed < 3; i++ {
			b := s.NewBatch()
			b.Set([]byte("n"), []byte(strconv.Itoa(i)))
			b.Set(fmt.Appendf(nil, "pad/%d", i), make([]byte, 8<<10)) // makes logs and tables turn over
			c, err := s.Apply(b)
			if err == nil {
				err = c.Wait()
			}
			switch {
			case err != nil:
				failed++
			case failed > 0:
				t.Fatalf("after %d writes: batch %d was acknowledged after one had failed", after, i)
			default:
				acked = i
			}
		}
		if failed == 0 {
			t.Fatalf("after %d writes: nothing failed on a failing disk", after)
		}
		if _, err := s.Get(nil, []byte("n")); err != nil {
			t.Errorf("after %d writes: reads fail too: %v", after, err)
		}
		closeFailed(s)
		s = open(t, inner.CrashClone(vfs.CrashCloneCfg{}), home)
		got, err := s.Get(nil, []byte("n"))
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := strconv.Atoi(string(got)); n < acked {
			t.Errorf("after %d writes: batch %d was acknowledged, %d is the last", after, acked, n)
		}
		closeStore(t, s)
	}
}

// closeFailed closes a store whose disk has failed: it may complain, not hang.
func closeFailed(s io.Closer) { _ = s.Close() }
