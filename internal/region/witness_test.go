package region

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
)

// TestJournalingWitness checks that two regions and a witness that keeps journals
// go on without loss when one of the two is lost, and that the witness survives a
// crash and the loss of its disk.
func TestJournalingWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var local string
		w := newWorld(t, func(def *spec.Spec) {
			def.Regions[2].Journal = true
			zero := spec.Duration(0)
			for i := range def.Tables {
				def.Tables[i].RPO = &zero
				if def.Tables[i].Writes == antipode.WriteLocal {
					local = def.Tables[i].Name
				}
			}
		})
		defer w.close()
		w.ready()
		time.Sleep(5 * time.Second) // until the witness has been told what there is
		put := func(at antipode.Region, key string) time.Duration {
			t.Helper()
			began := time.Now()
			if err := w.put(at, local, key); err != nil {
				t.Errorf("write %s in %s: %v", key, at, err)
			}
			return time.Since(began)
		}
		if took := put("oregon", "a"); took < 100*time.Millisecond || took > time.Second {
			t.Errorf("a write took %v, and should take about a round trip", took)
		}
		w.crash("mumbai")
		if took := put("oregon", "b"); took < 100*time.Millisecond || took > 3*time.Second {
			t.Errorf("a write that only the witness can confirm took %v", took)
		}
		w.crash("frankfurt")
		w.start("frankfurt")
		if took := put("oregon", "c"); took > 3*time.Second {
			t.Errorf("a write after the witness was started again took %v", took)
		}

		// oregon is lost with the writes that only the witness has.
		w.crash("oregon")
		w.start("mumbai")
		w.await(func() bool {
			return w.regions["mumbai"].data.Load() != nil && w.has("mumbai", local, "b") && w.has("mumbai", local, "c")
		}, "mumbai has what oregon wrote while it was down")
		w.start("oregon")

		// The witness loses its disk.
		w.crash("frankfurt")
		w.disks["frankfurt"] = vfs.NewCrashableMem()
		w.start("frankfurt")
		w.await(func() bool {
			d := w.regions["frankfurt"].data.Load()
			return d != nil && !d.tables.Filling()
		}, "the witness has got its journals back")
		w.crash("mumbai")
		if took := put("oregon", "d"); took > 3*time.Second {
			t.Errorf("a write that the new witness confirms took %v", took)
		}
		for _, r := range []antipode.Region{"oregon", "frankfurt"} {
			all, err := w.regions[r].data.Load().tables.Unprotected(t.Context())
			if err != nil || len(all) > 0 {
				t.Errorf("%s went on without copies: %v %v", r, all, err)
			}
		}
		if st, err := w.regions["frankfurt"].Status(t.Context()); err != nil || st.API != "" || len(st.Tables) > 0 {
			t.Errorf("the witness says that it serves tables: %+v %v", st, err)
		}
		w.start("mumbai")
		w.ready()
	})
}

// await waits in the test's synctest bubble.
func (w *world) await(holds func() bool, what string) {
	w.t.Helper()
	for range 600 {
		if holds() {
			return
		}
		time.Sleep(100 * time.Millisecond) // in a synctest bubble
	}
	w.t.Fatalf("after a minute it does not hold that %s", what)
}
