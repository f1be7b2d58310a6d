package model

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// machine is what explore walks: states S and steps T. Its functions are called
// from several goroutines, each with states of its own.
type machine[S, T any] struct {
	start S
	// enabled appends the steps that can happen next, in a fixed order.
	enabled func(s *S, out []T) []T
	do      func(s *S, step T)
	// key tells states apart by 64 bits; buf may be used and is given back. States that
	// differ only in names may share a key.
	key func(s *S, buf []byte) (uint64, []byte)
	// wrong says what is wrong with a state; empty when nothing is.
	wrong func(s *S) string
	max   int // of states; 0 is no bound
}

// found is what explore comes back with.
type found[T any] struct {
	states, depth int
	truncated     bool
	wrong         string
	trace         []T
}

// known is a set of keys that several goroutines fill.
type known struct{ parts [64]knownPart }

type knownPart struct {
	mu   sync.Mutex
	has  map[uint64]struct{}
	_pad [40]byte // so that two parts do not share a cache line
}

// add reports whether the key is new.
func (k *known) add(key uint64) bool {
	p := &k.parts[key>>58]
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.has[key]; ok {
		return false
	}
	if p.has == nil {
		p.has = map[uint64]struct{}{}
	}
	p.has[key] = struct{}{}
	return true
}

// slab holds new states and how they were come by. Slabs are used again, since the
// states of two levels are most of what there is in memory.
type slab[S any] struct {
	states [slabSize]S
	visits [slabSize]visit
	n      int
}

const slabSize = 1 << 10

// explore walks all states, breadth first, each level by all processors, until
// one is wrong; no shorter trace leads to a wrong one.
func explore[S, T any](m *machine[S, T]) found[T] {
	var seen known
	key, _ := m.key(&m.start, nil)
	seen.add(key)
	visits := []visit{{}}
	res := found[T]{states: 1}
	if res.wrong = m.wrong(&m.start); res.wrong != "" {
		return res
	}
	slabs := &sync.Pool{New: func() any { return new(slab[S]) }}
	start := new(slab[S])
	start.states[0], start.n = m.start, 1
	for level, first := []*slab[S]{start}, 0; len(level) > 0; res.depth++ {
		next, wrong := m.level(level, first, &seen, slabs)
		first = len(visits)
		for _, part := range next {
			visits = append(visits, part.visits[:part.n]...)
		}
		res.states = len(visits)
		if wrong != nil {
			visits = append(visits, wrong.visits[0])
			res.wrong = m.wrong(&wrong.states[0])
			res.trace = m.trace(visits)
			return res
		}
		if m.max > 0 && res.states >= m.max {
			res.truncated = true
			return res
		}
		level = next
	}
	res.depth--
	return res
}

// level takes all steps from the states of a level, of which the first was the
// visit number first, and gives the level's slabs back. The first wrong state
// found ends it.
func (m *machine[S, T]) level(level []*slab[S], first int, seen *known, slabs *sync.Pool) ([]*slab[S], *slab[S]) {
	firsts := make([]int, len(level))
	for i, part := range level {
		firsts[i] = first
		first += part.n
	}
	var at atomic.Int64
	var wrong atomic.Pointer[slab[S]]
	var mu sync.Mutex
	var next []*slab[S]
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			w := worker[S, T]{machine: m, seen: seen, out: slabs.Get().(*slab[S])} //nolint:errcheck // it holds nothing else
			w.out.n = 0
			full := func() {
				mu.Lock()
				next = append(next, w.out)
				mu.Unlock()
			}
			for wrong.Load() == nil {
				i := int(at.Add(1)) - 1
				if i >= len(level) {
					break
				}
				for n := range level[i].n {
					if bad := w.step(&level[i].states[n], uint32(firsts[i]+n), func() {
						full()
						w.out, _ = slabs.Get().(*slab[S])
						w.out.n = 0
					}); bad != nil {
						wrong.CompareAndSwap(nil, bad)
						break
					}
				}
				slabs.Put(level[i])
			}
			if w.out.n > 0 {
				full()
			} else {
				slabs.Put(w.out)
			}
		})
	}
	wg.Wait()
	return next, wrong.Load()
}

// worker is one processor's part of a level.
type worker[S, T any] struct {
	*machine[S, T]
	seen  *known
	out   *slab[S]
	steps []T
	buf   []byte
}

// step takes all steps from the state number at. It calls full when out is, and
// returns a state that is wrong.
func (w *worker[S, T]) step(s *S, at uint32, full func()) *slab[S] {
	w.steps = w.enabled(s, w.steps[:0])
	for i, step := range w.steps {
		if w.out.n == slabSize {
			full()
		}
		state, n := &w.out.states[w.out.n], w.out.n
		*state = *s
		w.do(state, step)
		var key uint64
		if key, w.buf = w.key(state, w.buf); !w.seen.add(key) {
			continue
		}
		w.out.visits[n] = visit{at, uint8(i)}
		w.out.n++
		if w.wrong(state) != "" {
			bad := new(slab[S])
			bad.states[0], bad.visits[0] = *state, w.out.visits[n]
			return bad
		}
	}
	return nil
}

// trace walks back from the last visit to the start, and the steps forth again.
func (m *machine[S, T]) trace(visits []visit) []T {
	var places []uint8
	for at := len(visits) - 1; at != 0; at = int(visits[at].parent) {
		places = append(places, visits[at].step)
	}
	slices.Reverse(places)
	s := m.start
	var out []T
	for _, p := range places {
		step := m.enabled(&s, nil)[p]
		out = append(out, step)
		m.do(&s, step)
	}
	return out
}
