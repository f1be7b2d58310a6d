package sim

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// kernel delivers events in the order of their times. Real goroutines run the
// code under test, but only one of them at a time goes on: whoever has to wait
// hands the kernel a post, and is let go on by the kernel.
type kernel struct {
	rng    *rand.Rand
	queue  eventQueue
	seq    uint64
	start  time.Time
	events atomic.Int64 // read by whoever wakes up by a timer, too
	step   int64        // rises with everything that an observer could put in order
	actors uint64
	ready  []func() // what lets somebody go on

	trace hash.Hash64
	log   io.Writer

	mu    sync.Mutex // guards posts
	posts []post
}

func newKernel(seed uint64, log io.Writer) *kernel {
	return &kernel{
		rng:   rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // the same seed must give the same run
		start: wallNow(), trace: fnv.New64a(), log: log,
	}
}

// wallNow is the bubble's clock.
func wallNow() time.Time {
	return time.Now() //nolint:forbidigo // virtual: it runs in a synctest bubble
}

func (k *kernel) now() time.Duration { return wallNow().Sub(k.start) }

// note writes a line of the trace.
func (k *kernel) note(format string, args ...any) {
	w := io.Writer(k.trace)
	if k.log != nil {
		w = io.MultiWriter(k.trace, k.log)
	}
	_, _ = fmt.Fprintf(w, "%d %d ", k.events.Load(), k.now()) // neither fails
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

// tick orders what observers see.
func (k *kernel) tick() int64 {
	k.step++
	return k.step
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type eventQueue []event

// Len implements heap.Interface.
func (q *eventQueue) Len() int { return len(*q) }

// Less implements heap.Interface.
func (q *eventQueue) Less(i, j int) bool {
	a, b := (*q)[i], (*q)[j]
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) < 0
}

// Swap implements heap.Interface.
func (q *eventQueue) Swap(i, j int) { (*q)[i], (*q)[j] = (*q)[j], (*q)[i] }

// Push implements heap.Interface.
func (q *eventQueue) Push(x any) {
	if e, ok := x.(event); ok {
		*q = append(*q, e)
	}
}

// Pop implements heap.Interface.
func (q *eventQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// after schedules an event. Events happen on whole microseconds, timeouts of the
// code under test (see timeout) never do, so that the two don't meet.
func (k *kernel) after(d time.Duration, do func()) {
	k.seq++
	at := (k.now() + max(d, 0) + time.Microsecond).Truncate(time.Microsecond)
	heap.Push(&k.queue, event{at, k.seq, do})
}

// between draws a duration from [least, most].
func (k *kernel) between(least, most time.Duration) time.Duration {
	return least + time.Duration(k.rng.Int64N(int64(max(most-least, 0))+1))
}

// post is what a goroutine asks of the kernel. Posts of one moment are taken in
// the order of their ids, whatever order the goroutines ran in.
type post struct {
	id uint64
	do func()
}

// post may be called from any goroutine.
func (k *kernel) post(id uint64, do func()) {
	k.mu.Lock()
	k.posts = append(k.posts, post{id, do})
	k.mu.Unlock()
}

// settle lets everybody go on who can, one at a time and in an order drawn from
// the seed, until nobody can.
func (k *kernel) settle() {
	for {
		synctest.Wait()
		k.mu.Lock()
		posts := k.posts
		k.posts = nil
		k.mu.Unlock()
		slices.SortStableFunc(posts, func(a, b post) int { return cmp.Compare(a.id, b.id) })
		for _, p := range posts {
			p.do()
		}
		if len(k.ready) == 0 {
			if len(posts) == 0 {
				return
			}
			continue
		}
		i := k.rng.IntN(len(k.ready))
		next := k.ready[i]
		k.ready = slices.Delete(k.ready, i, i+1)
		next()
	}
}

// next delivers the next event; false when there is none.
func (k *kernel) next() bool {
	if len(k.queue) == 0 {
		return false
	}
	e, ok := heap.Pop(&k.queue).(event)
	if !ok {
		return false
	}
	if d := e.at - k.now(); d > 0 {
		time.Sleep(d) //nolint:forbidigo // virtual: it runs in a synctest bubble
		k.settle()    // timeouts on the way
	}
	k.events.Add(1)
	e.do()
	k.settle()
	return true
}

// actor is one goroutine that runs code under test for a client or a peer.
type actor struct{ id uint64 }

type actorKey struct{}

// spawn lets a new actor of a core go on. It ends with the core at the latest.
func (k *kernel) spawn(c *core, f func(ctx context.Context, a *actor)) {
	k.actors++
	a := &actor{id: k.actors}
	c.wg.Add(1)
	ctx := context.WithValue(c.ctx, actorKey{}, a)
	k.ready = append(k.ready, func() {
		go func() {
			defer c.wg.Done()
			f(ctx, a)
		}()
	})
}

// yield holds an actor back until it is its turn to go on.
func (k *kernel) yield(ctx context.Context) {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		return
	}
	turn := make(chan struct{})
	k.post(a.id, func() { k.ready = append(k.ready, func() { close(turn) }) })
	<-turn
}
