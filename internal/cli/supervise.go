package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

const (
	readyPoll  = 100 * time.Millisecond
	watchPoll  = 500 * time.Millisecond
	explainAt  = 5 * time.Second // when waiting is explained, and how often
	healthTime = 2 * time.Second
)

// supervisor runs the regions of one `up`.
type supervisor struct {
	app      *app
	options  upOptions
	install  *install
	nursery  *nursery
	children []*child
	away     map[antipode.Region]string // regions that are not there, and what was last said of them
	foreign  map[antipode.Region]bool   // regions that somebody else started
}

// start starts all regions and waits until they serve.
func (v *supervisor) start(ctx context.Context) error {
	v.away, v.foreign = map[antipode.Region]string{}, map[antipode.Region]bool{}
	offsets := map[antipode.Region]int64{}
	for _, r := range v.install.spec.Regions {
		offsets[r.Name] = fileSize(v.install.path(r.Name, logFile))
		c, err := v.startOne(ctx, r.Name)
		if err != nil {
			return err
		}
		v.children = append(v.children, c)
	}
	started := v.app.now()
	explained := started
	waiting := v.install.spec.Regions
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		var later []spec.Region
		var reasons []string
		for i := range waiting {
			h, err := v.health(ctx, &waiting[i])
			if err == nil && h.Ready {
				continue
			}
			later = append(later, waiting[i])
			if err == nil {
				reasons = append(reasons, fmt.Sprintf("%s: %s", waiting[i].Name, h.Reason))
			}
		}
		for _, c := range v.children {
			if !c.running() {
				return fmt.Errorf("region %s %s before it was ready, so the others are stopped too. The end of its log, %s:\n%s",
					c.region, c.death(), c.log, indent(tail(c.log, offsets[c.region])))
			}
		}
		if waiting = later; len(waiting) == 0 {
			return nil
		}
		if now := v.app.now(); now.Sub(explained) >= explainAt {
			explained = now
			v.app.note("still waiting after %.0f s: %s", now.Sub(started).Seconds(), strings.Join(reasons, "; "))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *supervisor) startOne(ctx context.Context, name antipode.Region) (*child, error) {
	_ = os.Remove(v.install.path(name, restartFile)) // a request that was left there has come true
	return v.nursery.start(ctx, v.app.name, name, v.install.path(name, logFile), []string{"region", "run", string(name), "--data", v.options.dir, "--wan", v.options.wan})
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

func (v *supervisor) health(ctx context.Context, r *spec.Region) (operator.Health, error) {
	client, err := v.install.client(r)
	if err != nil {
		return operator.Health{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	return client.Health(ctx)
}

// watch tells when regions go and come back, until ctx ends.
func (v *supervisor) watch(ctx context.Context) {
	deaths := make(chan *child)
	heed := func(c *child) {
		go func() { // ends with the child, which stop waits for, or with the watch
			<-c.exited
			select {
			case deaths <- c:
			case <-ctx.Done():
			}
		}()
	}
	for _, c := range v.children {
		heed(c)
	}
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-deaths:
			if ctx.Err() == nil {
				v.lost(c)
			}
		case <-tick.C:
			for i := range v.install.spec.Regions {
				v.look(ctx, &v.install.spec.Regions[i])
			}
			for _, c := range v.restartAsked(ctx) {
				heed(c)
			}
		}
	}
}

// restartAsked starts the regions again that somebody asked for with
// askRestart, so that they are this process's children as before: they end with
// it, and its watch is over them. One that runs is left alone.
func (v *supervisor) restartAsked(ctx context.Context) (started []*child) {
	for i, old := range v.children {
		path := v.install.path(old.region, restartFile)
		if _, err := os.Stat(path); err != nil || old.running() {
			continue
		}
		// Before the start: who asked waits for the file to go, and then for the region.
		if err := os.Remove(path); err != nil {
			v.say("region %s can't be started again: %v", old.region, err)
			continue
		}
		if v.foreign[old.region] {
			continue // by hand, and it answers
		}
		c, err := v.startOne(ctx, old.region)
		if err != nil {
			v.say("%v", err)
			continue
		}
		v.say("region %s is started again, as was asked for", old.region)
		v.children[i] = c
		started = append(started, c)
	}
	return started
}

func (v *supervisor) lost(c *child) {
	v.away[c.region] = c.death()
	v.say("region %s %s. What it acknowledged is on disk, and the others go on. Start it again, in another terminal, with\n  %s",
		c.region, c.death(), v.app.command(v.options.dir, "region", "run", string(c.region)))
	if text := tail(c.log, 0); text != "" && c.cmd.ProcessState.ExitCode() > 0 {
		v.app.note("The end of its log, %s:\n%s", c.log, indent(text))
	}
}

// look asks how a region is that is not this process's child any more.
func (v *supervisor) look(ctx context.Context, r *spec.Region) {
	_, gone := v.away[r.Name]
	if !gone && !v.foreign[r.Name] {
		return
	}
	h, err := v.health(ctx, r)
	switch {
	case ctx.Err() != nil:
	case gone && err == nil && h.Ready:
		delete(v.away, r.Name)
		if !v.own(r.Name) {
			v.foreign[r.Name] = true
		}
		v.say("region %s is back", r.Name)
	case !gone && err != nil:
		delete(v.foreign, r.Name)
		v.away[r.Name] = "does not answer"
		v.say("region %s does not answer any more. Start it again with\n  %s", r.Name, v.app.command(v.options.dir, "region", "run", string(r.Name)))
	}
}

// own reports whether a region is a child of this process that runs.
func (v *supervisor) own(name antipode.Region) bool {
	return slices.ContainsFunc(v.children, func(c *child) bool { return c.region == name && c.running() })
}

func (v *supervisor) say(format string, args ...any) {
	v.app.note(v.app.now().Format("15:04:05 ")+format, args...)
}

// stop ends what this process started.
func (v *supervisor) stop(signals <-chan os.Signal) {
	running := 0
	for _, c := range v.children {
		if c.running() {
			running++
		}
	}
	if len(v.children) == 0 {
		return
	}
	if running > 0 {
		v.app.note("\nstopping %s; Ctrl-C again ends %s at once", count(running, "region"), plural(running, "it", "them"))
	}
	hurry, done := make(chan struct{}), make(chan struct{})
	watching := make(chan struct{})
	drain(signals) // the one that brought us here
	go func() {
		defer close(watching)
		select {
		case <-signals:
			close(hurry)
		case <-done:
		}
	}()
	forced := stopAll(v.children, hurry)
	close(done)
	<-watching
	for _, r := range forced {
		v.app.note("region %s was killed; what it acknowledged is on disk", r)
	}
	for name := range v.foreign {
		v.app.note("region %s was started by hand and goes on", name)
	}
	v.app.note("stopped; the data is in %s", v.options.dir)
}

func drain(signals <-chan os.Signal) {
	for {
		select {
		case <-signals:
		default:
			return
		}
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
