package region

import (
	"context"
	"fmt"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// onJoin is told that a region has proved a join token. Its root is kept here
// at once, and reaches the others through the group.
func (r *Region) onJoin(_ context.Context, region antipode.Region, rootPEM string) error {
	if _, ok := r.cfg.Spec.Region(region); !ok {
		return fmt.Errorf("region %s is not in the spec of %s; add it there first", region, r.cfg.Name)
	}
	if known := r.mesh.Trust().PEM(region); known != "" && known != rootPEM {
		return fmt.Errorf("region %s is known here with another root; if it was made anew, remove the old root from every region first", region)
	}
	r.log.Info("region joined", "joined", string(region))
	return r.trust(map[antipode.Region]string{region: rootPEM})
}

// trust adds roots to those that are believed here.
func (r *Region) trust(roots map[antipode.Region]string) error {
	t := r.mesh.Trust()
	changed := false
	for region, pem := range roots {
		if pem == "" || t.Has(region) {
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
	for r.ctx.Err() == nil {
		changed := r.group.Changed()
		state := r.group.State()
		if r.cfg.Network == nil {
			roots := make(map[antipode.Region]string)
			for name, reg := range state.Regions {
				roots[name] = reg.RootPEM
			}
			if err := r.trust(roots); err != nil {
				r.log.Error("take over roots", "error", err)
			}
		}
		for _, def := range r.cfg.Spec.ControlRegions() {
			if r.cfg.Network == nil {
				def.RootPEM = r.mesh.Trust().PEM(def.Name)
			}
			if known, ok := state.Regions[def.Name]; ok && (def.RootPEM == "" || known.RootPEM == def.RootPEM) {
				continue
			}
			if _, err := r.propose(control.Command{PutRegion: &def}); err != nil && r.ctx.Err() == nil {
				r.log.Debug("introduce region", "introduced", string(def.Name), "error", err)
				break
			}
		}
		select {
		case <-changed:
		case <-time.After(2 * time.Second): // a root may have come by a join
		case <-r.ctx.Done():
		}
	}
}
