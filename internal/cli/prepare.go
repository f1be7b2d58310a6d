package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/link/identity"
	"github.com/antipode-io/antipode/internal/region"
	"github.com/antipode-io/antipode/internal/spec"
)

// prepare makes what the regions of a spec need to start and to be used: an
// identity each that all others trust, operator tokens, access keys, and the
// spec itself. What is there already stays.
func (a *app) prepare(dir string, s *spec.Spec, wan string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := a.prepareTrust(dir, s); err != nil {
		return err
	}
	for i := range s.Regions {
		if err := prepareToken(dir, s.Regions[i].Name); err != nil {
			return err
		}
	}
	if err := a.prepareKeys(dir, s); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, wanFile), []byte(wan+"\n"), 0o644); err != nil {
		return err
	}
	return writeSpec(dir, s)
}

func (a *app) prepareTrust(dir string, s *spec.Spec) error {
	disk := vfs.Default
	roots := map[antipode.Region]string{}
	for _, r := range s.Regions {
		at := region.IdentityDir(disk, dir, r.Name)
		id, err := identity.LoadCA(disk, at)
		if errors.Is(err, identity.ErrNoIdentity) {
			id, err = identity.InitCA(disk, at, r.Name, a.now())
		}
		if err != nil {
			return fmt.Errorf("identity of region %s: %w", r.Name, err)
		}
		roots[r.Name] = id.RootPEM()
	}
	trust, err := identity.NewTrust(roots)
	if err != nil {
		return fmt.Errorf("trust between the regions: %w", err)
	}
	for _, r := range s.Regions {
		if err := identity.SaveTrust(disk, region.IdentityDir(disk, dir, r.Name), trust); err != nil {
			return fmt.Errorf("trust of region %s: %w", r.Name, err)
		}
	}
	return nil
}

func prepareToken(dir string, name antipode.Region) error {
	path := region.TokenPath(vfs.Default, dir, name)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return writeFile(path, []byte(operator.NewToken()+"\n"), 0o600)
}

// prepareKeys sees to it that the credentials file has a key for every region
// that the region accepts.
func (a *app) prepareKeys(dir string, s *spec.Spec) error {
	profiles, err := readCredentials(dir)
	if err != nil {
		return err
	}
	for _, name := range s.DataRegions() {
		ring, err := access.Open(access.Config{FS: vfs.Default, Path: region.KeysPath(vfs.Default, dir, name), Now: a.now})
		if err != nil {
			return fmt.Errorf("access keys of region %s: %w", name, err)
		}
		if k, ok := ring.Lookup(profiles[name].id); ok && k.Secret == profiles[name].secret {
			continue
		}
		k, err := ring.Create(access.Scope{})
		if err != nil {
			return fmt.Errorf("access key for region %s: %w", name, err)
		}
		profiles[name] = profile{region: name, id: k.ID, secret: k.Secret}
	}
	return writeCredentials(dir, s, profiles)
}

// errChanged is for a spec that the data there can't follow.
var errChanged = errors.New("the data directory was made for another spec")

// compareSpecs says what is different from what the data directory was started
// with: what simply takes effect, what is passed over, and, as the error, what
// can't be.
func compareSpecs(dir string, was, is *spec.Spec) (changes []string, err error) {
	var impossible []string
	for _, old := range was.Regions {
		r, ok := is.Region(old.Name)
		switch {
		case !ok:
			impossible = append(impossible, fmt.Sprintf("region %s is missing", old.Name))
		case r.Witness != old.Witness:
			impossible = append(impossible, fmt.Sprintf("region %s changes between keeping data and witness", old.Name))
		case r.Journal != old.Journal: // others count on its copies, or would on ones that it lacks
			impossible = append(impossible, fmt.Sprintf("witness %s begins or ends to keep journals", old.Name))
		default:
			changes = append(changes, compareRegions(old, *r)...)
		}
	}
	for _, r := range is.Regions {
		if _, ok := was.Region(r.Name); !ok {
			impossible = append(impossible, fmt.Sprintf("region %s is new", r.Name))
		}
	}
	for _, t := range is.Tables {
		old, ok := was.Table(t.Name)
		switch {
		case !ok:
			changes = append(changes, fmt.Sprintf("table %s is new and will be made", t.Name))
		case !sameTable(old, &t):
			changes = append(changes, fmt.Sprintf("table %s is described differently, but exists: it stays as it is (delete it and make it anew to change it)", t.Name))
		}
	}
	for _, old := range was.Tables {
		if _, ok := is.Table(old.Name); !ok {
			changes = append(changes, fmt.Sprintf("table %s is not in the spec any more: it stays, with its items (DeleteTable removes it)", old.Name))
		}
	}
	if len(impossible) > 0 {
		return nil, fmt.Errorf("%s: %w: %s. Nothing was changed. Use another --data DIR, or remove %s to start over without its data",
			dir, errChanged, strings.Join(impossible, "; "), dir)
	}
	return changes, nil
}

func compareRegions(was, is spec.Region) []string {
	var out []string
	if was.Addresses != is.Addresses {
		out = append(out, fmt.Sprintf("region %s moves from %s to %s", is.Name, was.Addresses.API, is.Addresses.API))
	}
	if was.Location != is.Location {
		out = append(out, fmt.Sprintf("region %s is now in %s", is.Name, is.Location))
	}
	return out
}

// sameTable compares what the spec says, a pointer followed.
func sameTable(a, b *spec.Table) bool {
	x, y := spec.Spec{Tables: []spec.Table{*a}}, spec.Spec{Tables: []spec.Table{*b}}
	p, err := x.Fingerprint()
	q, err2 := y.Fingerprint()
	return err == nil && err2 == nil && p == q && slices.Equal(a.Replicas, b.Replicas)
}
