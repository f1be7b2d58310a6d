package journal

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

// TestStableAfterLostDisk checks that an acknowledgement that waits for writes
// that went with their author's disk does not hold up all later ones.
func TestStableAfterLostDisk(t *testing.T) {
	a := open(t, vfs.NewMem(), oregon)
	sh, members := a.Shard(shard), []antipode.Region{"oregon", "mumbai"}
	_, c1 := write(t, a, "1")
	_, c2 := write(t, a, "2")
	if err := errors.Join(c1.Wait(), c2.Wait()); err != nil {
		t.Fatal(err)
	}
	one, two := antipode.Frontier{}.With(oregon, 1), antipode.Frontier{}.With(oregon, 2)
	sh.Acked("mumbai", one)
	sh.Acked("mumbai", one.Clone().With(mumbai, 3)) // of which nothing has come yet
	if diff := cmp.Diff(one, sh.Stable(members)); diff != "" {
		t.Error(diff)
	}
	sh.Acked("mumbai", antipode.Frontier{}) // mumbai comes back without its disk
	if got := sh.Stable(members); len(got) != 0 {
		t.Errorf("stable though mumbai lost it: %v", got)
	}
	sh.Acked("mumbai", two)
	if diff := cmp.Diff(two, sh.Stable(members)); diff != "" {
		t.Errorf("stable once mumbai has everything back: %s", diff)
	}
}
