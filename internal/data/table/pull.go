package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// pullTime bounds the pulling from one region in one step.
const pullTime = 3 * time.Second

// fix has the successor gather what the others had when they sealed, and propose
// the cutoff: all that it has then. Of live members it has to have everything,
// since what they go on to write may lean on it; of fenced ones what can be had,
// and the group knows whether that is enough.
func (w *work) fix(ctx context.Context) error {
	ts := w.ts
	step := &ts.tn.step
	maps.DeleteFunc(step.proposed, func(id uint64, _ control.Frontiers) bool {
		f, ok := w.state.Failovers[id]
		return !ok || !underWay(f)
	})
	var errs []error
	for _, f := range w.failovers(underWay) {
		if f.Successor != ts.cfg.Self {
			continue
		}
		w.later = true
		if len(w.state.Unsealed(f)) > 0 {
			continue
		}
		if err := w.fixOne(ctx, f); err != nil {
			errs = append(errs, fmt.Errorf("fix the cutoff of failover %d: %w", f.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (w *work) fixOne(ctx context.Context, f *control.Failover) error {
	ts, step := w.ts, &w.ts.tn.step
	cutoff, again := step.proposed[f.ID]
	if !again {
		// While it isn't known what became of a cutoff, nothing that it bounds is
		// applied here: it would be taken out again.
		if len(step.proposed) > 0 {
			return nil
		}
		if err := w.gather(ctx, f); err != nil {
			return err
		}
		cutoff = ts.frontiers(f.Set)
	}
	if step.proposed == nil {
		step.proposed = make(map[uint64]control.Frontiers)
	}
	step.proposed[f.ID] = cutoff
	err := w.propose(ctx, control.Command{Fix: &control.Fix{Failover: f.ID, Cutoff: cutoff, Fences: w.fences, At: ts.cfg.Clock.Wall().UnixMilli()}})
	switch {
	case errors.Is(err, control.ErrNotEnough), errors.Is(err, control.ErrStale):
		delete(step.proposed, f.ID) // refused for good: it may grow again
		return err
	case err != nil:
		return err
	}
	delete(step.proposed, f.ID)
	return w.install()
}

// gather pulls what others had when they sealed.
func (w *work) gather(ctx context.Context, f *control.Failover) error {
	ts := w.ts
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(f.Sealed)) {
		had := f.Sealed[name]
		if name == ts.cfg.Self || ts.frontiers(f.Set).Covers(had) {
			continue
		}
		r := w.state.Regions[name]
		live := r != nil && !r.Lease.Fenced && !r.Witness
		err := ts.pullFrom(ctx, name, had, w.opens(live))
		if err == nil && !ts.frontiers(f.Set).Covers(had) {
			err = fmt.Errorf("%w: %s does not give all that it had when it sealed", ErrUnavailable, name)
		}
		switch {
		case err != nil && live:
			errs = append(errs, err)
		case err != nil:
			ts.cfg.Logger.Info("pull from a region that is fenced", "failover", f.ID, "from", string(name), "error", err)
		}
	}
	return errors.Join(errs...)
}

// opens says whose seals do not hold for what is pulled: those of failovers to
// this region. What live members report is within every cutoff, so all of it may
// be applied; what a fenced one had may be beyond another successor's.
func (w *work) opens(live bool) func(control.RoleID) bool {
	mine := make(map[control.RoleID]bool)
	for _, g := range w.failovers(underWay) {
		if g.Successor == w.ts.cfg.Self {
			for _, r := range g.Roles {
				mine[r.RoleID] = true
			}
		}
	}
	return func(id control.RoleID) bool { return live || mine[id] }
}

// pullFrom gets everything up to a frontier that is missing here. It is no
// acknowledgement: nobody counts on it before the cutoff is known.
func (ts *Tables) pullFrom(ctx context.Context, from antipode.Region, had control.Frontiers, open func(control.RoleID) bool) error {
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	for _, shard := range slices.Sorted(maps.Keys(had)) {
		if err := ts.pullShard(ctx, from, shard, had[shard], open); err != nil {
			return fmt.Errorf("pull shard %s from %s: %w", shard, from, err)
		}
	}
	return nil
}

func (ts *Tables) pullShard(ctx context.Context, from antipode.Region, shard antipode.Shard, had antipode.Frontier, open func(control.RoleID) bool) error {
	sh := ts.cfg.Journal.Shard(shard)
	waiting := make(map[antipode.Origin][]*journal.Entry)
	for {
		missing, progress := false, false
		for _, m := range had {
			last := sh.Applied().Seq(m.Origin)
			if q := waiting[m.Origin]; len(q) > 0 {
				last = max(last, q[len(q)-1].Dot.Seq)
			}
			if last >= m.Seq || m.Origin == ts.origin {
				continue
			}
			missing = true
			entries, err := ts.pull(ctx, from, antipode.Dot{Origin: m.Origin, Shard: shard, Seq: last}, m.Seq)
			if err != nil {
				return err
			}
			waiting[m.Origin] = append(waiting[m.Origin], entries...)
			progress = progress || len(entries) > 0
		}
		n, err := ts.applyPulled(sh, waiting, open)
		if err != nil {
			return err
		}
		if !missing || !progress && n == 0 {
			return nil // the caller looks whether it is enough
		}
	}
}

// applyPulled applies what can be, in transactions of a bounded size, and
// returns once that is durable.
func (ts *Tables) applyPulled(sh *journal.Shard, waiting map[antipode.Origin][]*journal.Entry, open func(control.RoleID) bool) (n int, err error) {
	var commits []*journal.Commit
	for {
		k, done, err := ts.applySome(sh, waiting, open)
		if k != nil {
			commits = append(commits, k)
		}
		n += done
		if err != nil || done == 0 {
			return n, errors.Join(err, journal.Sync(commits...))
		}
	}
}

// pulledBytes bounds one transaction of pulled entries.
const pulledBytes = 512 << 10

func (ts *Tables) applySome(sh *journal.Shard, waiting map[antipode.Origin][]*journal.Entry, open func(control.RoleID) bool) (k *journal.Commit, n int, err error) {
	sh.Lock()
	defer sh.Unlock()
	txn := sh.Begin(ts.cfg.Store.NewBatch())
	s := ts.Session(txn)
	done := make(map[antipode.Origin]int)
	put, ended := 0, false
	for progress := true; progress && !ended; {
		progress = false
		for _, o := range slices.SortedFunc(maps.Keys(waiting), antipode.Origin.Compare) {
			for !ended && txn.Len() < pulledBytes && done[o] < len(waiting[o]) {
				e := waiting[o][done[o]]
				if e.Dot.Seq > txn.Applied().Seq(o) { // else it came another way meanwhile
					how := ts.admit(e, open)
					if e.Dot.Seq != txn.Applied().Seq(o)+1 || !txn.Applied().Covers(e.Context) || how == journal.NotYet || !ts.Known(e) {
						break
					}
					if ended = how == journal.Alone; ended && put > 0 {
						break
					}
					if err = txn.Put(e); err == nil {
						err = s.Apply(e)
					}
					if err != nil {
						txn.Discard()
						return nil, 0, err
					}
					put++
				}
				done[o]++
				n++
				progress = true
			}
		}
	}
	for o, d := range done {
		waiting[o] = waiting[o][d:]
	}
	if put == 0 {
		txn.Discard()
		return nil, n, nil
	}
	k, err = txn.Commit()
	if err != nil {
		return nil, 0, err
	}
	s.Committed()
	return k, n, nil
}

// pullBytes bounds an answer, but for its first entry.
const pullBytes = 1 << 20

// pull asks a region for an origin's entries after a dot, up to a sequence.
func (ts *Tables) pull(ctx context.Context, from antipode.Region, after antipode.Dot, upto uint64) ([]*journal.Entry, error) {
	req := &call{Marks: []string{after.Shard.String()}, Verb: after.Origin.String(), Epoch: after.Seq, Upto: upto}
	answer, err := ts.ask(ctx, from, methodPull, req)
	if err != nil {
		return nil, err
	}
	var names journal.Origins
	var out []*journal.Entry
	err = journal.EachRow(answer.Blobs[0], func(_, raw []byte) error {
		e, err := names.Decode(bytes.Clone(raw))
		if err != nil {
			return err
		}
		want := antipode.Dot{Origin: after.Origin, Shard: after.Shard, Seq: after.Seq + uint64(len(out)) + 1}
		if e.Dot != want {
			return fmt.Errorf("%w: %s in the place of %s", journal.ErrMalformed, e.Dot, want)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// servePull gives entries that are durable here, whoever's they are.
func (ts *Tables) servePull(_ context.Context, from antipode.Region, body []byte) ([]byte, error) {
	c, err := decodeCall(body)
	if err != nil {
		return refuse(err)
	}
	shard, err := c.shard()
	if err != nil {
		return refuse(err)
	}
	origin, err := antipode.ParseOrigin(c.Verb)
	if err != nil {
		return refuse(err)
	}
	if !slices.Contains(ts.cfg.Catalog().MembersOf(shard), from) {
		return refuse(fmt.Errorf("%s keeps no journal of shard %s", from, shard))
	}
	answer := &call{}
	next := c.Epoch + 1
	upto := min(c.Upto, ts.cfg.Journal.Shard(shard).DurableSeq(origin))
	err = ts.cfg.Journal.Read(shard, origin, c.Epoch, upto, func(seq uint64, raw []byte) bool {
		if seq != next {
			return false // cut off here
		}
		next++
		answer.Blobs[0] = journal.AppendRow(answer.Blobs[0], nil, raw)
		return len(answer.Blobs[0]) < pullBytes
	})
	if err != nil {
		return refuse(err)
	}
	return answer.encode()
}
