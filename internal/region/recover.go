package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

// lostDisk reports whether this region is to be given what its incarnation
// before had, and has not been yet. A witness that is new at keeping journals is,
// too: the others' may have been cut by now.
func (r *Region) lostDisk(origin antipode.Origin) (bool, error) {
	if origin.Incarnation <= 1 && !r.spec.Witness {
		return false, nil
	}
	done, err := r.meta.number(metaRecovered)
	return done != origin.Incarnation, err
}

// methodFrontiers asks a region for all its durable frontiers.
const methodFrontiers = "region.frontiers"

func (d *data) serveFrontiers(context.Context, antipode.Region, []byte) ([]byte, error) {
	out := make(map[string]map[string]uint64)
	for _, id := range d.journal.Shards() {
		out[id.String()] = d.journal.Shard(id).Durable().Marks()
	}
	return json.Marshal(out)
}

// grantsExpire is longer than any request between regions may take.
const grantsExpire = 5 * time.Second

// forgottenExpire is after how long nothing is under way any more that this
// region allowed before it lost its disk: births, and what a machine does whose
// place it has taken, under a lease that it can't renew.
func (r *Region) forgottenExpire() time.Duration {
	return max(grantsExpire, time.Duration(r.cfg.Spec.Lease)+time.Second)
}

// recover makes a region that lost its disk wait, before it serves anybody,
// until it holds again what the others hold: as a writer, home or arbiter it
// would otherwise decide without knowing what it had decided.
func (r *Region) recover(origin antipode.Origin) error {
	// Births that it allowed as an arbiter before it lost its disk, and has
	// forgotten, may still be under way. After this wait each has happened, and is
	// among what the others are asked for below, or has failed.
	r.because("it lost its journal and waits until nothing that it had allowed is still under way")
	if !r.spec.Witness && !r.every(r.forgottenExpire()) {
		return r.ctx.Err()
	}
	tables := r.data.Load().tables
	for {
		copies := tables.Copies()
		for _, peer := range (dataLinks{r}).Peers() {
			if err := r.recoverAll(peer); err != nil {
				return err
			}
		}
		// A copy of a shard that began in between may have come from a region that
		// holds less of it than one asked before: all are asked again.
		served, err := tables.Serve(copies, func() error { return r.meta.setNumber(metaRecovered, origin.Incarnation) })
		if served || err != nil {
			return err
		}
		if !r.every(100 * time.Millisecond) {
			return r.ctx.Err()
		}
	}
}

func (r *Region) recoverAll(peer antipode.Region) error {
	r.because(fmt.Sprintf("it lost its journal and waits to be given what %s holds", peer))
	for {
		err := r.recoverFrom(peer)
		if err == nil {
			return nil
		}
		r.log.Warn("recover", "peer", string(peer), "error", err)
		if !r.every(time.Second) {
			return r.ctx.Err()
		}
	}
}

func (r *Region) recoverFrom(peer antipode.Region) error {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	all, err := r.askFrontiers(ctx, peer)
	if err != nil {
		return err
	}
	d := r.data.Load()
	for id, f := range all {
		if !slices.Contains(d.tables.Members(id), r.cfg.Name) {
			continue
		}
		if err := d.journal.WaitCovers(ctx, id, f); err != nil {
			return fmt.Errorf("shard %s of %s: %w", id, peer, err)
		}
	}
	return nil
}

func (r *Region) askFrontiers(ctx context.Context, peer antipode.Region) (map[antipode.Shard]antipode.Frontier, error) {
	answer, err := r.mesh.Call(ctx, peer, methodFrontiers, nil)
	if err != nil {
		return nil, err
	}
	var texts map[string]map[string]uint64
	if err := json.Unmarshal(answer, &texts); err != nil {
		return nil, fmt.Errorf("frontiers of %s: %w", peer, err)
	}
	all := make(map[antipode.Shard]antipode.Frontier, len(texts))
	for text, marks := range texts {
		id, err := antipode.ParseShard(text)
		if err != nil {
			return nil, fmt.Errorf("frontiers of %s: %w", peer, err)
		}
		if all[id], err = antipode.ParseMarks(marks); err != nil {
			return nil, fmt.Errorf("frontiers of %s: %w", peer, err)
		}
	}
	return all, nil
}

// oldCopyTimeout bounds the wait for peers that may know that this store is an
// old copy. Those that can't be reached are not waited for longer: a region
// starts alone, too.
const oldCopyTimeout = 2 * time.Second

// checkOldCopy asks the peers, before anything is written, whether they hold
// entries of this region that it does not: then its store was replaced by an old
// copy, or is damaged, and would use their sequence numbers again.
func (r *Region) checkOldCopy(log *journal.Journal) error {
	ctx, cancel := context.WithTimeout(r.ctx, oldCopyTimeout)
	defer cancel()
	peers := (dataLinks{r}).Peers()
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, peer := range peers {
		wg.Go(func() { errs[i] = r.checkAgainst(ctx, log, peer) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *Region) checkAgainst(ctx context.Context, log *journal.Journal, peer antipode.Region) error {
	for ctx.Err() == nil {
		all, err := r.askFrontiers(ctx, peer)
		if err != nil { // it may be starting as well
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		for id, f := range all {
			if theirs, mine := f.Seq(log.Origin()), log.Shard(id).Applied().Seq(log.Origin()); theirs > mine {
				return fmt.Errorf("%w: %s has %d entries of shard %s, here are %d", ship.ErrForgotten, peer, theirs, id, mine)
			}
		}
		return nil
	}
	r.log.Warn("start without having asked a peer for what it holds", "peer", string(peer))
	return nil
}
