package region

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/dynamo"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/group"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

// openData starts what stores and serves data. At the very first start it waits
// for the control group to give the journal's author; later it needs nobody.
func (r *Region) openData() error {
	origin, err := r.author()
	if err != nil {
		return err
	}
	r.incarnation.Store(origin.Incarnation)
	lost, err := r.lostDisk(origin)
	if err != nil {
		return err
	}
	if err := r.openTables(origin, lost); err != nil {
		return err
	}
	if lost {
		if err := r.recover(origin); err != nil {
			return err
		}
	}
	if r.spec.Witness {
		r.log.Info("keeping journals", "origin", origin.String())
		return nil
	}
	r.wg.Go(r.declareTables)
	if err := r.openDynamo(); err != nil {
		return err
	}
	if err := r.awaitTables(); err != nil {
		return err
	}
	if err := r.awaitLease(); err != nil {
		return err
	}
	r.reason.Store(nil)
	close(r.ready)
	r.log.Info("serving", "origin", origin.String(), "api", r.spec.Addresses.API)
	return nil
}

// author returns the origin that this region writes as. A region without a
// journal, be it new or one that lost its disk, asks the group for a new
// incarnation, so that no sequence number is ever used twice.
func (r *Region) author() (antipode.Origin, error) {
	self := antipode.Origin{Region: r.cfg.Name}
	n, err := r.meta.number(metaIncarnation)
	if err != nil || n > 0 {
		self.Incarnation = n
		return self, err
	}
	r.because("it waits for a majority of the regions, to agree on it as the author of a new journal")
	for {
		changed := r.group.Changed()
		known, ok := r.group.State().Regions[r.cfg.Name]
		if !ok {
			if err := r.awaitChange(changed); err != nil {
				return self, err
			}
			continue
		}
		state, err := r.propose(control.Command{Incarnate: &control.Incarnate{Region: r.cfg.Name, Was: known.Incarnation}})
		if err != nil {
			if r.ctx.Err() != nil {
				return self, r.ctx.Err()
			}
			r.log.Warn("ask for an incarnation", "error", err)
			continue
		}
		self.Incarnation = state.Regions[r.cfg.Name].Incarnation
		return self, r.meta.setNumber(metaIncarnation, self.Incarnation)
	}
}

func (r *Region) awaitChange(changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// proposeTimeout is how long the group may take to agree before a background
// task asks again.
const proposeTimeout = 10 * time.Second

func (r *Region) propose(c control.Command) (*control.State, error) {
	ctx, cancel := context.WithTimeout(r.ctx, proposeTimeout)
	defer cancel()
	return r.group.Propose(ctx, c)
}

func (r *Region) openTables(origin antipode.Origin, filling bool) error {
	log, err := journal.Open(journal.Config{Store: r.store, Origin: origin})
	if err != nil {
		return err
	}
	d := &data{journal: log}
	r.mesh.HandleCall(methodFrontiers, d.serveFrontiers)
	if !filling {
		r.because("it asks the others whether they hold more of its journal than it does")
		if err := r.checkOldCopy(log); err != nil {
			return r.explainShip(err)
		}
	}
	d.tables = table.New(table.Config{
		Self: r.cfg.Name, Store: r.store, Journal: log, Clock: r.clock, Catalog: r.group.State,
		Call: r.mesh.Call,
		NotSent: func(err error) bool {
			var unreachable *link.UnreachableError
			return errors.Is(err, link.ErrNoHandler) || errors.As(err, &unreachable) && !unreachable.Sent
		},
		Compile: dynamo.Compile, Size: dynamo.StoredSize, Filling: filling, Retention: r.cfg.Retention, Logger: r.log,
		DegradeAfter: time.Duration(r.cfg.Spec.Lease) + degradeGrace,
		Lease:        r.leases(), Propose: r.proposeStep, Kick: func() { r.applyWaiting(d) },
		Reaches: func(name antipode.Region) bool { return slices.Contains(r.mesh.Reaches(), name) },
	})
	d.ship = ship.New(ship.Config{
		Journal: log, Members: d.tables.Members, Known: d.tables.Known, Admit: d.tables.Admit, Copier: d.tables, Filling: d.tables.Filling, Logger: r.log,
		Prompt:  d.tables.Prompt,
		RTT:     r.mesh.LeastRTT,
		Session: func(txn *journal.Txn) ship.Session { return d.tables.Session(txn) },
		Stamp:   func() antipode.Stamp { return antipode.MakeStamp(r.wall().UnixMilli(), 0) },
	})
	for method, h := range d.tables.Handlers() {
		r.mesh.HandleCall(method, link.CallHandler(h))
	}
	r.data.Store(d)
	r.registry.MustRegister(newCollector(r, d))

	r.closing("journal", log.KeepCopied)
	runner := ship.NewRunner(d.ship, dataLinks{r}, func(err error) { r.fail(r.explainShip(err)) })
	ctx, cancel := context.WithCancel(r.ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); runner.Run(ctx) }()
	r.closing("journal connections", func() error { cancel(); <-ended; return nil })
	r.wg.Go(func() { r.kick(d) })
	r.wg.Go(func() { d.tables.RunRoles(r.ctx, r.group.Changed) })
	r.wg.Go(func() { r.rejoin(d.tables.Installed) })
	r.wg.Go(func() { r.sweep(d) })
	r.wg.Go(func() { r.protect(d) })
	return nil
}

// dataLinks are the links to those regions that keep journals.
type dataLinks struct{ r *Region }

func (l dataLinks) Peers() (peers []antipode.Region) {
	for _, def := range l.r.cfg.Spec.Regions {
		if (!def.Witness || def.Journal) && def.Name != l.r.cfg.Name {
			peers = append(peers, def.Name)
		}
	}
	return peers
}

func (l dataLinks) Dial(ctx context.Context, to antipode.Region, kind link.Kind) (net.Conn, error) {
	return l.r.mesh.Dial(ctx, to, kind)
}

func (l dataLinks) HandleConn(kind link.Kind, h link.ConnHandler) { l.r.mesh.HandleConn(kind, h) }

func (r *Region) explainShip(err error) error {
	if errors.Is(err, ship.ErrForgotten) {
		return fmt.Errorf("region %s stops: %w; its store was replaced by an old copy, or is damaged. Move %s away and start the region again: it comes back as a new author and gets its data from the others; nothing that they hold is lost",
			r.cfg.Name, err, r.cfg.FS.PathJoin(r.dir, storeDir))
	}
	return fmt.Errorf("region %s stops: %w", r.cfg.Name, err)
}

// kick applies entries that waited for their table whenever the catalog changes.
func (r *Region) kick(d *data) {
	for {
		changed := r.group.Changed()
		r.applyWaiting(d)
		if r.awaitChange(changed) != nil {
			return
		}
	}
}

// applyWaiting applies entries that have waited, as far as they can be now.
func (r *Region) applyWaiting(d *data) {
	commits, err := d.ship.Kick()
	for _, c := range commits {
		err = errors.Join(err, c.Wait())
	}
	if err != nil {
		r.log.Error("apply entries that waited for their table, or for a cutoff", "error", err)
	}
}

// sweepEvery is how often tombstones and old entries are looked for.
const sweepEvery = 10 * time.Second

func (r *Region) sweep(d *data) {
	for r.every(sweepEvery) {
		if err := d.tables.Sweep(r.ctx); err != nil && r.ctx.Err() == nil {
			r.log.Error("sweep", "error", err)
		}
	}
}

// degradeGrace is for how much longer than a lease copies are waited for before
// writes go on without: a region that loses its lease meanwhile does not.
const degradeGrace = time.Second

// protect looks after what tables promise about the loss of a region.
func (r *Region) protect(d *data) {
	for r.every(table.ProtectEvery) {
		if err := d.tables.StepProtect(); err != nil && r.ctx.Err() == nil {
			r.log.Error("look after copies", "error", err)
		}
	}
}

// declareTables has the group make the spec's tables that it does not have.
func (r *Region) declareTables() {
	for _, t := range r.cfg.Spec.ControlTables() {
		for r.ctx.Err() == nil {
			state := r.group.State()
			if state.Dropped[t.Name] {
				r.log.Warn("table of the spec is not made", "table", t.Name, "error", control.ErrDropped)
			}
			if state.Tables[t.Name] != nil || state.Dropped[t.Name] {
				break
			}
			t.Created = r.wall().UnixMilli()
			_, err := r.propose(control.Command{CreateTable: &t})
			switch {
			case err == nil, errors.Is(err, control.ErrTableExists), errors.Is(err, control.ErrDropped):
			case errors.Is(err, control.ErrInvalid):
				// Its replicas may not be known yet: they introduce themselves.
				r.log.Info("table of the spec has to wait", "table", t.Name, "error", err)
				r.every(time.Second)
			case errors.Is(err, group.ErrNoQuorum), errors.Is(err, group.ErrNoLeader):
				r.every(time.Second)
			default:
				r.log.Error("make table of the spec", "table", t.Name, "error", err)
				r.every(5 * time.Second)
			}
		}
	}
}

// tablesGrace is how long a region waits for the spec's tables before it is
// ready without them.
const tablesGrace = 10 * time.Second

// awaitTables waits for the spec's tables that belong here, so that who hears
// that the region is ready can use them. What the regions can't agree on now
// does not keep it from serving what it has.
func (r *Region) awaitTables() error {
	r.because("it waits for the regions to agree on the tables of the spec")
	timer := time.NewTimer(tablesGrace)
	defer timer.Stop()
	for {
		changed := r.group.Changed()
		missing := r.missingTables()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			r.log.Warn("tables of the spec are not there yet; the region serves without them", "tables", missing)
			return nil
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
}

func (r *Region) missingTables() (names []string) {
	state := r.group.State()
	for _, t := range r.cfg.Spec.ControlTables() {
		if state.Tables[t.Name] == nil && !state.Dropped[t.Name] && t.HasReplica(r.cfg.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

func (r *Region) openDynamo() error {
	if r.cfg.Network != nil {
		return nil
	}
	var aliases []string
	if code := r.spec.Location.String(); code != "" {
		if name, ok := r.cfg.Spec.Resolve(code); ok && name == r.cfg.Name {
			aliases = append(aliases, code)
		}
	}
	d := r.data.Load()
	server, err := dynamo.New(dynamo.Config{
		Region: r.cfg.Name, Aliases: aliases, Tables: d.tables, Control: r.group, Keys: r.keys, Now: r.wall,
		Stats: func(t *table.TableRef) (items, bytes int64) {
			items, bytes, err := d.tables.Count(r.ctx, t)
			if err != nil {
				r.log.Warn("count items", "table", t.Name, "error", err)
			}
			return items, bytes
		},
		TLS: r.tls, Registerer: r.registry, Logger: r.log,
	})
	if err != nil {
		return err
	}
	ln, err := r.listen(r.spec.Addresses.API)
	if err != nil {
		return err
	}
	r.wg.Go(func() { server.Expire(r.ctx) })
	r.serve("DynamoDB API", func() error { return server.Serve(r.ctx, ln) }, server.Shutdown)
	return nil
}
