package table

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestBacklog checks, by random histories, that what is under way is never taken
// for younger than it is, nor for much older, in however little room.
func TestBacklog(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	start := time.UnixMilli(1_700_000_000_000)
	const pause = time.Minute // the longest
	for range 50 {
		b := &backlog{width: minWidth}
		now := start
		written := []time.Time{start} // by sequence
		acked := uint64(0)
		for range 3000 {
			if now = now.Add(time.Duration(r.IntN(20)) * time.Millisecond); r.IntN(200) == 0 {
				now = now.Add(time.Duration(r.Int64N(int64(pause))))
			}
			b.note(uint64(len(written)), now)
			if r.IntN(10) > 0 { // else it comes to nothing
				written = append(written, now)
			}
			if r.IntN(20) == 0 && len(written) > 1 {
				acked = max(acked, uint64(r.IntN(len(written))))
			}
			oldest := acked + 1
			if oldest >= uint64(len(written)) {
				b.marks = b.marks[:0]
				continue
			}
			if r.IntN(5) > 0 {
				continue
			}
			at, ok := b.since(oldest)
			if !ok || at.After(written[oldest]) {
				t.Fatalf("write %d of %v counts from %v, known %v", oldest, written[oldest], at, ok)
			}
			span := now.Sub(written[oldest])
			if early := written[oldest].Sub(at); early > 2*minWidth+span/4+2*pause {
				t.Fatalf("write %d counts from %v too early, of %v under way", oldest, early, span)
			}
			if len(b.marks) > marksKept {
				t.Fatalf("%d marks", len(b.marks))
			}
		}
	}
}

// TestBacklogForgetsTheFailed checks that a write that came to nothing long ago
// does not make the next one look old.
func TestBacklogForgetsTheFailed(t *testing.T) {
	b := &backlog{width: minWidth}
	at := time.UnixMilli(1_700_000_000_000)
	b.note(1, at)
	b.note(1, at.Add(time.Hour))
	if got, ok := b.since(1); !ok || !got.Equal(at.Add(time.Hour)) {
		t.Errorf("counts from %v, %v", got, ok)
	}
}
