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

// visit is how a state was reached first.
type visit struct {
	parent uint32 // place in the list of visits
	step   uint8  // place in the parent's enabled steps
}

// claim orders visits.
func (v visit) claim() uint64 { return uint64(v.parent)<<8 | uint64(v.step) }

// known says of each key which visit it was first. Among the visits of one level
// the lowest wins, whoever comes first, so that every walk is the same.
type known struct{ parts [64]knownPart }

type knownPart struct {
	mu  sync.Mutex
	has map[uint64]uint64
}

// add reports whether the visit is the first of the key so far; first is the
// lowest parent of its level.
func (k *known) add(key uint64, v visit, first int) bool {
	p := &k.parts[key>>58]
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok := p.has[key]
	if ok && (was < uint64(first)<<8 || was <= v.claim()) {
		return false
	}
	if p.has == nil {
		p.has = map[uint64]uint64{}
	}
	p.has[key] = v.claim()
	return true
}

// stands reports whether the visit is the first of the key, now that its level is done.
func (k *known) stands(key uint64, v visit) bool { return k.parts[key>>58].has[key] == v.claim() }

// slab holds new states and how they were come by. Slabs are used again, since the
// states of two levels are most of what there is in memory.
type slab[S any] struct {
	states [slabSize]S
	visits [slabSize]visit
	keys   [slabSize]uint64
	n      int
}

const slabSize = 1 << 8

// explore walks all states, breadth first, each level by all processors, until
// one is wrong; no shorter trace leads to a wrong one. States are known by a 64-bit
// hash: among ten million of them the odds that one goes unseen are some 3 in a million.
func explore[S, T any](m *machine[S, T]) found[T] {
	w := &walk[S, T]{machine: m, slabs: sync.Pool{New: func() any { return new(slab[S]) }}}
	key, _ := m.key(&m.start, nil)
	w.seen.add(key, visit{}, 0)
	visits := []visit{{}}
	res := found[T]{states: 1}
	if res.wrong = m.wrong(&m.start); res.wrong != "" {
		return res
	}
	start := w.slab()
	start.states[0], start.n = m.start, 1
	for level := []*slab[S]{start}; len(level) > 0; res.depth++ {
		first := len(visits) - size(level)
		level = w.level(level, first)
		for _, part := range level {
			visits = append(visits, part.visits[:part.n]...)
		}
		res.states = len(visits)
		if w.wrong != nil {
			visits = append(visits, w.wrong.visits[0])
			res.wrong = m.wrong(&w.wrong.states[0])
			res.trace = m.trace(visits)
			return res
		}
		if m.max > 0 && res.states >= m.max {
			res.truncated = true
			return res
		}
	}
	res.depth--
	return res
}

func size[S any](level []*slab[S]) (n int) {
	for _, part := range level {
		n += part.n
	}
	return n
}

// walk is a walk under way.
type walk[S, T any] struct {
	*machine[S, T]

	seen  known
	slabs sync.Pool

	mu    sync.Mutex
	wrong *slab[S] // the first state that is wrong, alone in its slab
}

func (w *walk[S, T]) slab() *slab[S] {
	s, _ := w.slabs.Get().(*slab[S]) // it holds nothing else
	s.n = 0
	return s
}

// level takes all steps from the states of a level, of which the first was visit
// number first, and gives its slabs back. What it returns is in the order of the
// visits.
func (w *walk[S, T]) level(level []*slab[S], first int) (next []*slab[S]) {
	parts := make([][]*slab[S], len(level))
	firsts := make([]int, len(level))
	for i, n := 0, first; i < len(level); i++ {
		firsts[i] = n
		n += level[i].n
	}
	each(len(level), func(i int, steps []T, buf []byte) ([]T, []byte) {
		out := w.slab()
		for n := range level[i].n {
			at := visit{parent: uint32(firsts[i] + n)}
			steps = w.enabled(&level[i].states[n], steps[:0])
			for step := range steps {
				if out.n == slabSize {
					parts[i] = append(parts[i], out)
					out = w.slab()
				}
				at.step = uint8(step)
				buf = w.step(&level[i].states[n], steps[step], at, first, out, buf)
			}
		}
		parts[i] = append(parts[i], out)
		w.slabs.Put(level[i])
		return steps, buf
	})
	return w.compact(parts)
}

// step adds the state that the step leads to, if it is new.
func (w *walk[S, T]) step(s *S, step T, v visit, first int, out *slab[S], buf []byte) []byte {
	state := &out.states[out.n]
	*state = *s
	w.do(state, step)
	key, buf := w.key(state, buf)
	if !w.seen.add(key, v, first) {
		return buf
	}
	out.visits[out.n], out.keys[out.n] = v, key
	out.n++
	if w.machine.wrong(state) != "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.wrong == nil || v.claim() < w.wrong.visits[0].claim() {
			w.wrong = new(slab[S])
			w.wrong.states[0], w.wrong.visits[0] = *state, v
		}
	}
	return buf
}

// compact leaves out what another visit of the level came to first.
func (w *walk[S, T]) compact(parts [][]*slab[S]) (next []*slab[S]) {
	var out *slab[S]
	for _, part := range parts {
		for _, from := range part {
			for n := range from.n {
				if !w.seen.stands(from.keys[n], from.visits[n]) {
					continue
				}
				if out == nil || out.n == slabSize {
					out = w.slab()
					next = append(next, out)
				}
				out.states[out.n], out.visits[out.n] = from.states[n], from.visits[n]
				out.n++
			}
			w.slabs.Put(from)
		}
	}
	return next
}

// each calls do for 0 to n-1 on all processors, with buffers that are kept.
func each[T any](n int, do func(i int, steps []T, buf []byte) ([]T, []byte)) {
	var at atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			var steps []T
			var buf []byte
			for i := int(at.Add(1)) - 1; i < n; i = int(at.Add(1)) - 1 {
				steps, buf = do(i, steps, buf)
			}
		})
	}
	wg.Wait()
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
