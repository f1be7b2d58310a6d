package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

// injury is what a drill did, or was about to do, and has to be undone. It is on
// disk before the deed, so that whoever comes after a drill that was killed can
// heal it.
type injury struct {
	Drill   string               `json:"drill"` // its ID
	Frozen  map[string]int       `json:"frozen,omitempty"`
	Killed  []antipode.Region    `json:"killed,omitempty"`
	Cut     [][2]antipode.Region `json:"cut,omitempty"`
	Skewed  []antipode.Region    `json:"skewed,omitempty"`
	Tables  bool                 `json:"tables,omitempty"` // the drill's are to be removed
	Started string               `json:"started"`
}

const injuryFile = "injury.json"

// healFor is how long one thing is tried to be undone.
const healFor = 30 * time.Second

// sustain puts the injury on record.
func (r *run) sustain() error {
	r.injury.Drill, r.injury.Started = r.id, r.cfg.Now().UTC().Format(time.RFC3339)
	return writeJSON(r.cfg.FS, r.cfg.FS.PathJoin(r.cfg.Dir, injuryFile), r.injury)
}

// inject hurts the region. What lasts only as long as somebody does it, as the
// stopping of a slow region, is done by the function that is returned, until its
// context ends; it is nil where there is no such thing.
func (r *run) inject(ctx context.Context) (during func(context.Context), err error) {
	name, pid := r.cfg.Sites[r.target].Name, r.before[r.target].PID
	others := []int{r.peer}
	switch r.kind.Name {
	case RegionDown:
		r.injury.Killed = []antipode.Region{name}
	case RegionFrozen, SlowRegion:
		r.injury.Frozen = map[string]int{string(name): pid}
	case ClockSkew:
		r.injury.Skewed = []antipode.Region{name}
	case Isolated:
		others = others[:0]
		for i := range r.cfg.Sites {
			if i != r.target {
				others = append(others, i)
			}
		}
		fallthrough
	default:
		for _, i := range others {
			r.injury.Cut = append(r.injury.Cut, [2]antipode.Region{name, r.cfg.Sites[i].Name})
		}
	}
	if err := r.sustain(); err != nil {
		return nil, fmt.Errorf("put the injury on record before it is done: %w", err)
	}
	return r.hurt(ctx, pid, others)
}

func (r *run) hurt(ctx context.Context, pid int, others []int) (func(context.Context), error) {
	site := &r.cfg.Sites[r.target]
	switch r.kind.Name {
	case RegionDown:
		return nil, r.signal(pid, syscall.SIGKILL)
	case RegionFrozen:
		return nil, r.signal(pid, syscall.SIGSTOP)
	case SlowRegion:
		return func(ctx context.Context) { r.slow(ctx, pid) }, nil
	case ClockSkew:
		return r.skew, site.Operator.SkewClock(ctx, r.cfg.Skew)
	case Flap:
		return r.flap, r.cut(ctx, others, operator.Both)
	case OneWayCut:
		return nil, r.cut(ctx, others, operator.Outgoing)
	default:
		return nil, r.cut(ctx, others, operator.Both)
	}
}

func (r *run) signal(pid int, s syscall.Signal) error {
	if err := r.cfg.Signal(pid, s); err != nil {
		return fmt.Errorf("send %v to process %d of %s: %w; a drill like this works where the region runs, as its user", s, pid, r.cfg.Sites[r.target].Name, err)
	}
	return nil
}

// cut cuts the target's links, at both ends and all at once.
func (r *run) cut(ctx context.Context, others []int, way operator.Direction) error {
	back := operator.Both
	if way == operator.Outgoing {
		back = operator.Incoming
	}
	self := &r.cfg.Sites[r.target]
	errs := make([]error, 2*len(others))
	var wg sync.WaitGroup
	for n, i := range others {
		peer := &r.cfg.Sites[i]
		wg.Go(func() { errs[2*n] = self.Operator.CutLink(ctx, peer.Name, way) })
		wg.Go(func() { errs[2*n+1] = peer.Operator.CutLink(ctx, self.Name, back) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cut links of %s: %w", self.Name, err)
	}
	return nil
}

const (
	slowSlice = 50 * time.Millisecond
	slowStop  = 40 * time.Millisecond // of each slice
	flapWhole = 1500 * time.Millisecond
)

// flapCuts are how long a flapping link is cut, in turn: less than what a link
// bears in silence, and more.
func flapCuts() []time.Duration { return []time.Duration{time.Second, 4 * time.Second} }

func (r *run) slow(ctx context.Context, pid int) {
	for {
		_ = r.cfg.Signal(pid, syscall.SIGSTOP) // a process that is gone shows in the status
		more := r.wait(ctx, slowStop)
		_ = r.cfg.Signal(pid, syscall.SIGCONT)
		if !more || !r.wait(ctx, slowSlice-slowStop) {
			return
		}
	}
}

// flap heals and cuts a link that is cut when it begins.
func (r *run) flap(ctx context.Context) {
	self, peer := &r.cfg.Sites[r.target], &r.cfg.Sites[r.peer]
	for n := 0; r.wait(ctx, flapCuts()[n%len(flapCuts())]); n++ {
		err := errors.Join(self.Operator.HealLink(ctx, peer.Name), peer.Operator.HealLink(ctx, self.Name))
		r.event(EventFault, "the link is whole%s", failedToo(err))
		if !r.wait(ctx, flapWhole) {
			return
		}
		r.event(EventFault, "the link is cut%s", failedToo(r.cut(ctx, []int{r.peer}, operator.Both)))
	}
}

func failedToo(err error) string {
	if err == nil {
		return ""
	}
	return ", or should be: " + err.Error()
}

// skew sets the clock behind once it has been ahead for half of the time.
func (r *run) skew(ctx context.Context) {
	if r.wait(ctx, r.cfg.For/2) {
		err := r.cfg.Sites[r.target].Operator.SkewClock(ctx, -r.cfg.Skew)
		r.event(EventFault, "the clock is set %v behind%s", r.cfg.Skew, failedToo(err))
	}
}

// heal undoes an injury, whatever has become of who did it, and forgets it once
// all is undone.
func (r *run) heal(ctx context.Context) error {
	in := &r.injury
	var errs []error
	for name, pid := range in.Frozen {
		if err := r.cfg.Signal(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("let %s (process %d) go on: %w", name, pid, err))
		}
	}
	for _, name := range in.Killed {
		errs = append(errs, r.revive(ctx, name))
	}
	for _, ends := range in.Cut {
		for i, name := range ends {
			peer := ends[1-i]
			errs = append(errs, r.insist(ctx, name, func(ctx context.Context, c *operator.Client) error { return c.HealLink(ctx, peer) }))
		}
	}
	for _, name := range in.Skewed {
		errs = append(errs, r.insist(ctx, name, func(ctx context.Context, c *operator.Client) error { return c.SkewClock(ctx, 0) }))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("heal what drill %s did: %w; once that works, `antipode drill heal` does the rest", in.Drill, err)
	}
	in.Frozen, in.Killed, in.Cut, in.Skewed = nil, nil, nil, nil
	if in.Tables {
		return r.sustain()
	}
	return r.forget()
}

// forget takes the injury off the record.
func (r *run) forget() error {
	err := r.cfg.FS.Remove(r.cfg.FS.PathJoin(r.cfg.Dir, injuryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// revive has a region started again, unless it runs.
func (r *run) revive(ctx context.Context, name antipode.Region) error {
	i, ok := r.site(name)
	if !ok {
		return nil // it is no region any more
	}
	asking, cancel := context.WithTimeout(ctx, watchAnswer)
	defer cancel()
	if _, err := r.cfg.Sites[i].Operator.Health(asking); err == nil {
		return nil
	}
	if err := r.cfg.Restart(ctx, name); err != nil {
		return fmt.Errorf("start %s again: %w", name, err)
	}
	return nil
}

// insist tries again until a region has done what it is asked.
func (r *run) insist(ctx context.Context, name antipode.Region, do func(context.Context, *operator.Client) error) error {
	i, ok := r.site(name)
	if !ok {
		return nil
	}
	deadline, cancel := context.WithTimeout(ctx, healFor)
	defer cancel()
	for {
		asking, stop := context.WithTimeout(deadline, 3*time.Second)
		err := do(asking, r.cfg.Sites[i].Operator)
		stop()
		if err == nil || errors.Is(err, operator.ErrConflict) || errors.Is(err, operator.ErrNotFound) {
			return nil // a region that was started anew without emulation has nothing to undo
		}
		if !r.wait(deadline, 300*time.Millisecond) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func (r *run) site(name antipode.Region) (int, bool) {
	for i := range r.cfg.Sites {
		if r.cfg.Sites[i].Name == name {
			return i, true
		}
	}
	return 0, false
}

// readInjury returns what an earlier drill left behind; nil for nothing.
func readInjury(disk vfs.FS, dir string) (*injury, error) {
	var in injury
	err := readJSON(disk, disk.PathJoin(dir, injuryFile), &in)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what an earlier drill left: %w", err)
	}
	return &in, nil
}

func readJSON(disk vfs.FS, path string, to any) error {
	f, err := disk.Open(path)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// writeJSON puts a file in place whole and synced.
func writeJSON(disk vfs.FS, path string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	f, err := disk.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := disk.OpenDir(disk.PathDir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// mode of the folder of records.
const dirMode os.FileMode = 0o700
