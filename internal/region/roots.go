package region

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// onJoin is told that a region has proved a join token. Its root is kept here
// at once, and reaches the others through the group.
func (r *Region) onJoin(_ context.Context, region antipode.Region, rootPEM string, replace bool) error {
	if _, ok := r.cfg.Spec.Region(region); !ok {
		return fmt.Errorf("region %s is not in the spec of %s; add it there first", region, r.cfg.Name)
	}
	r.trustMu.Lock()
	defer r.trustMu.Unlock()
	known := r.mesh.Trust().PEM(region)
	if known != "" && known != rootPEM {
		if !replace {
			return fmt.Errorf("region %s is known here with another root", region)
		}
		var was string
		if def, ok := r.group.State().Regions[region]; ok {
			was = def.RootPEM
		}
		// Before the group agrees: without this region it may have no majority.
		if err := r.meta.set(metaReroot+string(region), []byte(was)); err != nil {
			return err
		}
		r.log.Warn("another machine takes the place of a lost one", "replaced", string(region))
	}
	r.log.Info("region joined", "joined", string(region))
	return r.trust(map[antipode.Region]string{region: rootPEM})
}

// trust makes these the roots that are believed here of their regions. The caller
// holds trustMu.
func (r *Region) trust(roots map[antipode.Region]string) error {
	t := r.mesh.Trust()
	changed := false
	for region, pem := range roots {
		if pem == t.PEM(region) {
			continue
		}
		var err error
		if t, err = t.With(region, pem); err != nil {
			return fmt.Errorf("trust %s: %w", region, err)
		}
		changed = true
	}
	if !changed {
		return nil
	}
	if err := identity.SaveTrust(r.cfg.FS, IdentityDir(r.cfg.FS, r.cfg.Dir, r.cfg.Name), t); err != nil {
		return err
	}
	r.mesh.SetTrust(t)
	return nil
}

// keepRoots introduces to the group the regions of the spec with the roots that
// are known here, and takes over those that the group knows.
func (r *Region) keepRoots() {
	self := r.mesh.Trust().PEM(r.cfg.Name)
	known := false // to the group, as the root of this region
	for r.ctx.Err() == nil {
		changed := r.group.Changed()
		if r.cfg.Network == nil {
			regions := r.group.State().Regions
			untold, err := r.adoptRoots(regions)
			for _, c := range untold {
				_, told := r.propose(control.Command{Reroot: &c})
				err = errors.Join(err, told)
			}
			if err != nil && r.ctx.Err() == nil {
				r.log.Error("take over roots", "error", err)
			}
			// One that takes the place of another sees the other's root first.
			if def := regions[r.cfg.Name]; def != nil && def.RootPEM == self {
				known = true
			} else if known {
				r.fail(fmt.Errorf("region %s stops: another machine was let in in its place; take this one's data away, it is no part of the system any more", r.cfg.Name))
			}
		}
		r.introduce()
		select {
		case <-changed:
		case <-time.After(2 * time.Second): // a root may have come by a join
		case <-r.ctx.Done():
		}
	}
}

// adoptRoots believes what the group knows, but for the roots that were replaced
// by a join here: it returns what is to be told to the group of those.
func (r *Region) adoptRoots(known map[antipode.Region]*control.Region) (untold []control.Reroot, err error) {
	// A join in between would be undone by what the group knew before it.
	r.trustMu.Lock()
	defer r.trustMu.Unlock()
	roots := make(map[antipode.Region]string)
	for name, def := range known {
		if def.RootPEM == "" || name == r.cfg.Name {
			continue
		}
		was, err := r.meta.store.Get(nil, []byte(metaReroot+string(name)))
		switch replaced := r.mesh.Trust().PEM(name); {
		case errors.Is(err, engine.ErrNotFound):
			roots[name] = def.RootPEM
		case err != nil:
			return nil, err
		case replaced != def.RootPEM && string(was) == def.RootPEM:
			untold = append(untold, control.Reroot{Region: name, Was: def.RootPEM, RootPEM: replaced})
		default: // the group knows of it, or of yet another one
			roots[name] = def.RootPEM
			if err := r.meta.remove(metaReroot + string(name)); err != nil {
				return nil, err
			}
		}
	}
	return untold, r.trust(roots)
}

// introduce tells the group of regions of the spec that it does not know, or
// whose root it does not know.
func (r *Region) introduce() {
	state := r.group.State()
	for _, def := range r.cfg.Spec.ControlRegions() {
		if r.cfg.Network == nil {
			def.RootPEM = r.mesh.Trust().PEM(def.Name)
		}
		if known, ok := state.Regions[def.Name]; ok && (def.RootPEM == "" || known.RootPEM != "") {
			continue
		}
		if _, err := r.propose(control.Command{PutRegion: &def}); err != nil && r.ctx.Err() == nil {
			r.log.Debug("introduce region", "introduced", string(def.Name), "error", err)
			return
		}
	}
}
