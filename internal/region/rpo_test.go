package region

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/spec"
)

// TestFailoverLosesNothing checks that a table with an rpo of 0s has all that was
// answered, or shown, after its writer's region was lost: the journaling witness
// holds what the other region has not got.
func TestFailoverLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(def *spec.Spec) {
			def.Regions[2].Journal = true
			zero := spec.Duration(0)
			for i := range def.Tables {
				def.Tables[i].RPO = &zero
			}
		})
		defer w.close()
		w.ready()
		w.eventually(5*time.Second, "oregon has a lease", func() bool { return w.leased("oregon") })
		time.Sleep(5 * time.Second) // until the witness has been told what there is
		if err := w.regions["oregon"].mesh.Cut("mumbai", link.Both); err != nil {
			t.Fatal(err)
		}
		var answered []string
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			if err := w.put("oregon", "catalog", key); err != nil {
				t.Errorf("write %s: %v", key, err)
				continue
			}
			answered = append(answered, key)
		}
		w.isolate("oregon")
		w.eventually(20*time.Second, "mumbai takes over", func() bool { return w.put("mumbai", "catalog", "after") == nil })
		for _, key := range answered {
			if !w.has("mumbai", "catalog", key) {
				t.Errorf("%s was answered and is lost", key)
			}
		}
	})
}
