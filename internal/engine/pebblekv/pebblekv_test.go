package pebblekv_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/engine/enginetest"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(tb testing.TB, fs vfs.FS, dir string) engine.Store {
		tb.Helper()
		return open(tb, pebblekv.Config{FS: fs, Dir: dir})
	})
}

func open(tb testing.TB, cfg pebblekv.Config) *pebblekv.Store {
	tb.Helper()
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 1 << 20
	}
	s, err := pebblekv.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func set(s *pebblekv.Store, key, value string) error {
	b := s.NewBatch()
	b.Set([]byte(key), []byte(value))
	c, err := s.Apply(b)
	if err != nil {
		return err
	}
	return c.Wait()
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestInUse(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"disk": vfs.Default, "memory": vfs.NewMem()} {
		dir := fs.PathJoin(t.TempDir(), "store")
		s := open(t, pebblekv.Config{FS: fs, Dir: dir})
		if _, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: dir}); !errors.Is(err, pebblekv.ErrInUse) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: second Open: got %v, want ErrInUse with the directory's name", name, err)
		}
		must(t, s.Close())
		must(t, open(t, pebblekv.Config{FS: fs, Dir: dir}).Close())
	}
}

func TestNewerFormat(t *testing.T) {
	fs := vfs.NewMem()
	must(t, open(t, pebblekv.Config{FS: fs, Dir: "d"}).Close())
	names, err := fs.List("d")
	must(t, err)
	for _, n := range names {
		if strings.HasPrefix(n, "marker.format-version.") {
			must(t, fs.Rename("d/"+n, "d/marker.format-version.000099.999"))
		}
	}
	if _, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "d"}); !errors.Is(err, pebblekv.ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}

// flush makes the store write tables by filling its memory, then reopens it.
func fill(t *testing.T, s *pebblekv.Store) {
	t.Helper()
	for i := range 40 {
		must(t, set(s, fmt.Sprintf("key/%03d", i), strings.Repeat(string(rune('a'+i%26)), 60_000)))
	}
}

func TestCorruptTable(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, pebblekv.Config{FS: fs, Dir: "d", MemTableBytes: 1 << 20})
	fill(t, s)
	must(t, s.Close())
	names, err := fs.List("d")
	must(t, err)
	damaged := 0
	for _, n := range names {
		if !strings.HasSuffix(n, ".sst") {
			continue
		}
		f, err := fs.OpenReadWrite("d/"+n, vfs.WriteCategoryUnspecified)
		must(t, err)
		st, err := f.Stat()
		must(t, err)
		_, err = f.WriteAt(slices.Repeat([]byte{0xee}, int(min(200, st.Size()/2))), 0)
		must(t, err)
		must(t, f.Close())
		damaged++
	}
	if damaged == 0 {
		t.Fatal("no table was written")
	}
	s = open(t, pebblekv.Config{FS: fs, Dir: "d"})
	it, err := s.Iterate(nil, nil)
	if err == nil {
		for ok := it.First(); ok; ok = it.Next() {
			_ = it.Value()
		}
		err = it.Close()
	}
	if !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), ".sst") {
		t.Errorf("read of a damaged table: got %v, want ErrCorrupt with the file's name", err)
	}
	must(t, set(s, "other", "1")) // the rest goes on
	_ = s.Close()
}

func TestCorruptLog(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, pebblekv.Config{FS: fs, Dir: "d"})
	for i := range 20 {
		must(t, set(s, fmt.Sprint(i), strings.Repeat("x", 5000)))
	}
	must(t, s.Close())
	names, err := fs.List("d")
	must(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ".log") {
			f, err := fs.OpenReadWrite("d/"+n, vfs.WriteCategoryUnspecified)
			must(t, err)
			_, err = f.WriteAt([]byte("damage"), 30_000)
			must(t, err)
			must(t, f.Close())
		}
	}
	if _, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "d"}); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("Open on a damaged log: got %v, want ErrCorrupt", err)
	}
}

// TestFailStop: when the log can't be written the owner hears of it once, every
// write fails from then on, and none of what was acknowledged is lost.
func TestFailStop(t *testing.T) {
	for _, c := range []struct {
		name string
		fail error
		want error
	}{
		{"broken", syscall.EIO, pebblekv.ErrFailed},
		{"full", syscall.ENOSPC, engine.ErrDiskFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			var broken atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
					return c.fail
				}
				return nil
			}))
			var told []error
			s := open(t, pebblekv.Config{FS: fs, Dir: "d", OnFatal: func(err error) { told = append(told, err) }})
			must(t, set(s, "a", "1"))
			broken.Store(true)
			for range 3 {
				if err := set(s, "a", "2"); !errors.Is(err, c.want) || !errors.Is(err, pebblekv.ErrFailed) {
					t.Errorf("write: got %v, want %v", err, c.want)
				}
			}
			if err := s.Close(); !errors.Is(err, pebblekv.ErrFailed) {
				t.Errorf("Close: got %v, want ErrFailed", err)
			}
			// Read after Close, which waits for the goroutine that wrote the log.
			if len(told) != 1 || !strings.Contains(told[0].Error(), "start the region again") {
				t.Errorf("OnFatal was called with %v, want one error that says what to do", told)
			}
			s = open(t, pebblekv.Config{FS: mem.CrashClone(vfs.CrashCloneCfg{}), Dir: "d"})
			if got, err := s.Get(nil, []byte("a")); err != nil || string(got) != "1" {
				t.Errorf("after restart: got %q, %v; want 1", got, err)
			}
			must(t, s.Close())
		})
	}
}

// TestReserve: a disk that fills up is noticed before it cuts a commit short, and
// writing goes on by itself once there is room.
func TestReserve(t *testing.T) {
	fs := vfs.NewMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30})
	s := open(t, pebblekv.Config{FS: fs, Dir: "d", ReserveBytes: 100 << 20, OnFatal: func(err error) { t.Error(err) }})
	must(t, set(s, "a", "1"))
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 60 << 20, TotalBytes: 2 << 30})
	var err error
	for i := 0; i < 200 && err == nil; i++ {
		err = set(s, "a", strings.Repeat("x", 100_000))
	}
	if !errors.Is(err, engine.ErrDiskFull) || errors.Is(err, pebblekv.ErrFailed) {
		t.Fatalf("got %v, want ErrDiskFull and no failure", err)
	}
	if _, err := s.Get(nil, []byte("a")); err != nil {
		t.Errorf("reads fail on a full disk: %v", err)
	}
	b := s.NewBatch()
	b.Delete([]byte("a"))
	c, err := s.Apply(b)
	must(t, err) // deleting wins space back
	must(t, c.Wait())
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30})
	must(t, set(s, "a", "2"))
	must(t, s.Close())
}

// TestFullWhileFlushing: a table that finds no room is written once there is some.
func TestFullWhileFlushing(t *testing.T) {
	var full atomic.Bool
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.HasSuffix(op.Path, ".sst") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := open(t, pebblekv.Config{FS: fs, Dir: "d", MemTableBytes: 1 << 20, OnFatal: func(err error) { t.Error(err) }})
	full.Store(true)
	for i := range 20 {
		must(t, set(s, fmt.Sprint("k", i), strings.Repeat("x", 50_000)))
	}
	full.Store(false)
	fill(t, s)
	must(t, s.Close())
	s = open(t, pebblekv.Config{FS: mem, Dir: "d"})
	if _, err := s.Get(nil, []byte("k0")); err != nil {
		t.Error(err)
	}
	must(t, s.Close())
}

func TestMetrics(t *testing.T) {
	s := open(t, pebblekv.Config{FS: vfs.NewMem(), Dir: "d"})
	reg := prometheus.NewPedanticRegistry()
	must(t, reg.Register(pebblekv.NewCollector(s)))
	must(t, set(s, "a", "1"))
	got, err := reg.Gather()
	must(t, err)
	var names []string
	for _, f := range got {
		names = append(names, f.GetName())
		if f.GetName() == "antipode_engine_fsync_seconds" && f.Metric[0].GetHistogram().GetSampleCount() == 0 {
			t.Error("no fsync was counted")
		}
	}
	for _, want := range []string{"antipode_engine_disk_bytes", "antipode_engine_fsync_seconds", "antipode_engine_stopped"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing among %v", want, names)
		}
	}
	must(t, s.Close())
	if got, err := reg.Gather(); err != nil || len(got) != 0 {
		t.Errorf("after Close: got %d families, %v; want none", len(got), err)
	}
}

// BenchmarkCommit is the write of an item (200 bytes) and its journal entry (250)
// in one batch, fsynced before the answer, on the disk of the working directory.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			dir, err := os.MkdirTemp(".", "bench-*") // /tmp may be memory
			must(b, err)
			defer os.RemoveAll(dir)
			s := open(b, pebblekv.Config{Dir: dir, CacheBytes: 64 << 20})
			item, entry := make([]byte, 200), make([]byte, 250)
			var next atomic.Int64
			took := make([][]time.Duration, writers)
			runtime.GC()
			b.ResetTimer()
			start := time.Now()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						t0 := time.Now()
						batch := s.NewBatch()
						batch.Set(fmt.Appendf(nil, "i/%020d", n*7919%1_000_003), item)
						batch.Set(fmt.Appendf(nil, "j/%020d", n), entry)
						c, err := s.Apply(batch)
						if err == nil {
							err = c.Wait()
						}
						if err != nil {
							b.Error(err)
							return
						}
						took[w] = append(took[w], time.Since(t0))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Concat(took...)
			slices.Sort(all)
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "commits/s")
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
			must(b, s.Close())
		})
	}
}
