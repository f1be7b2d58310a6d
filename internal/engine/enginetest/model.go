package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode/internal/engine"
)

// model is what a store should hold.
type model map[string]string

func (m model) keys(lower, upper string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k >= lower && k < upper {
			out = append(out, k)
		}
	}
	return out
}

// history drives a store and its model by the same random steps.
type history struct {
	t     *testing.T
	open  Open
	rng   *rand.Rand
	fs    *vfs.MemFS
	store engine.Store
	model model
	snap  engine.Snapshot
	then  model // what snap should hold
}

// testModel compares stores with a sorted map by random histories. A failure
// prints the seed, which is all that is needed to see it again.
func testModel(t *testing.T, open Open) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for n := range seeds {
		seed := n
		if n >= 3 {
			seed = rand.Uint64() // three fixed ones, and new ones in each run
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			h := &history{
				t: t, open: open, rng: rand.New(rand.NewPCG(seed, 1)), fs: fs,
				store: open(t, fs, home), model: model{},
			}
			for range 600 {
				h.step()
				if t.Failed() {
					break
				}
			}
			h.dropSnapshot()
			closeStore(t, h.store)
		})
	}
}

func (h *history) key() string {
	k := make([]byte, 1+h.rng.IntN(3))
	for i := range k {
		k[i] = "\x00ab\xff"[h.rng.IntN(4)]
	}
	return string(k)
}

func (h *history) step() {
	switch n := h.rng.IntN(100); {
	case n < 50:
		h.write()
	case n < 60:
		h.get(h.store, h.model)
	case n < 80:
		h.walk(h.store, h.model)
	case n < 84:
		h.dropSnapshot()
		h.snap, h.then = h.store.Snapshot(), maps.Clone(h.model)
	case n < 95:
		if h.snap != nil {
			h.get(h.snap, h.then)
			h.walk(h.snap, h.then)
		}
	case n < 98:
		h.dropSnapshot()
		closeStore(h.t, h.store)
		h.store = h.open(h.t, h.fs, home)
	default:
		// Everything was waited for, so a crash loses nothing.
		h.dropSnapshot()
		crashed := h.fs.CrashClone(vfs.CrashCloneCfg{})
		closeStore(h.t, h.store)
		h.fs = crashed
		h.store = h.open(h.t, h.fs, home)
	}
}

func (h *history) dropSnapshot() {
	if h.snap != nil {
		if err := h.snap.Close(); err != nil {
			h.t.Errorf("close snapshot: %v", err)
		}
		h.snap = nil
	}
}

func (h *history) write() {
	b := h.store.NewBatch()
	for range 1 + h.rng.IntN(6) {
		k := h.key()
		switch h.rng.IntN(8) {
		case 0, 1:
			b.Delete([]byte(k))
			delete(h.model, k)
		case 2:
			upper := h.key()
			b.DeleteRange([]byte(k), []byte(upper))
			for _, gone := range h.model.keys(k, upper) {
				delete(h.model, gone)
			}
		default:
			v := fmt.Sprint(h.rng.IntN(1000))
			if h.rng.IntN(20) == 0 {
				v += string(make([]byte, 20_000)) // makes tables turn over
			}
			b.Set([]byte(k), []byte(v))
			h.model[k] = v
		}
	}
	commit(h.t, h.store, b)
}

func (h *history) get(r engine.Reader, m model) {
	k := h.key()
	got, err := r.Get(nil, []byte(k))
	want, ok := m[k]
	if ok != (err == nil) || string(got) != want || (!ok && !errors.Is(err, engine.ErrNotFound)) {
		h.t.Errorf("get %q: got %.20q, %v; want %.20q, %t", k, got, err, want, ok)
	}
}

// walk moves an iterator over a random range by random steps.
func (h *history) walk(r engine.Reader, m model) {
	lower, upper := h.key(), h.key()+"\xff"
	var upperBound []byte
	if h.rng.IntN(4) == 0 {
		upper = "\xff\xff\xff\xff\xff"
	} else {
		upperBound = []byte(upper)
	}
	if bytes.Compare([]byte(lower), []byte(upper)) >= 0 {
		return
	}
	keys := m.keys(lower, upper)
	it, err := r.Iterate([]byte(lower), upperBound)
	if err != nil {
		h.t.Errorf("iterate: %v", err)
		return
	}
	at := len(keys)
	for i := range 20 {
		var ok bool
		var did string
		switch n := h.rng.IntN(6); {
		case n == 0 || i == 0:
			did, ok, at = "First", it.First(), 0
		case n == 1:
			did, ok, at = "Last", it.Last(), len(keys)-1
		case n == 2:
			k := h.key()
			did, ok = "SeekGE "+k, it.SeekGE([]byte(k))
			at, _ = slices.BinarySearch(keys, k)
		case n == 3:
			k := h.key()
			did, ok = "SeekLT "+k, it.SeekLT([]byte(k))
			at, _ = slices.BinarySearch(keys, k)
			at--
		case n == 4 && at < len(keys):
			did, ok, at = "Next", it.Next(), at+1
		case n == 5 && at >= 0:
			did, ok, at = "Prev", it.Prev(), at-1
		default:
			continue
		}
		if there := at >= 0 && at < len(keys); ok != there {
			h.t.Errorf("%q: got %t, want %t", did, ok, there)
			break
		} else if ok && (string(it.Key()) != keys[at] || string(it.Value()) != m[keys[at]]) {
			h.t.Errorf("%q: got %q, want %q", did, it.Key(), keys[at])
			break
		}
	}
	if err := it.Close(); err != nil {
		h.t.Errorf("iterate: %v", err)
	}
}
