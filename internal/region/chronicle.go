package region

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// chronicle writes into this region's log what the regions agree on about who
// accepts writes, so that each log alone tells what happened and when.
func (r *Region) chronicle() {
	was := r.group.State()
	for {
		changed := r.group.Changed()
		now := r.group.State()
		for _, line := range happened(was, now) {
			r.log.Warn("the regions agreed", "what", line)
		}
		was = now
		if r.awaitChange(changed) != nil {
			return
		}
	}
}

// happened says what has changed between two states about leases, failovers and roles.
func happened(was, now *control.State) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(now.Regions)) {
		switch old := was.Regions[name]; {
		case old == nil || old.Lease.Fenced == now.Regions[name].Lease.Fenced:
		case now.Regions[name].Lease.Fenced:
			say("%s is detached: its lease was ended", name)
		default:
			say("%s is back and has a lease again", name)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now.Failovers)) {
		f, old := now.Failovers[id], was.Failovers[id]
		switch {
		case old == nil && f.Cutoff == nil:
			say("failover %d: %s takes over %d roles of %s: %s", id, f.Successor, len(f.Roles), f.Lost, f.Why)
		case old == nil || old.Cutoff == nil && f.Cutoff != nil:
			say("failover %d: %s has taken over %d roles of %s, after %d ms", id, f.Successor, len(f.Roles), f.Lost, f.Fixed-f.Began)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now.Tables)) {
		t, old := now.Tables[name], was.Tables[name]
		if old == nil {
			continue
		}
		for _, home := range slices.SortedFunc(maps.Keys(t.Roles), cmp.Compare[antipode.Region]) {
			role, before := t.Roles[home], old.Role(home)
			what := "writes of " + name
			if home != "" {
				what = "writes of " + name + " to items of " + string(home)
			}
			switch {
			case role.Next != before.Next && role.Next != "":
				say("%s are being switched from %s to %s", what, role.Holder, role.Next)
			case role.Holder != before.Holder:
				say("%s are accepted in %s, epoch %d", what, role.Holder, role.Epoch)
			}
		}
	}
	return lines
}
