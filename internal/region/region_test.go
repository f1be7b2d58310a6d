package region

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/dynamo"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/replica/ship"
	"github.com/antipode-io/antipode/internal/spec"
)

// world is the built-in spec's three regions in one synctest bubble, over links
// in memory and crashable file systems.
type world struct {
	t       *testing.T
	spec    *spec.Spec
	network *link.MemoryNetwork
	disks   map[antipode.Region]*vfs.MemFS
	regions map[antipode.Region]*Region
	// retention is how long journals are kept; 0 is the default.
	retention time.Duration
}

func newWorld(t *testing.T, change ...func(*spec.Spec)) *world {
	t.Helper()
	w := &world{
		t: t, spec: spec.Builtin(), network: link.NewMemoryNetwork(time.Now, "oregon", "mumbai", "frankfurt"),
		disks: map[antipode.Region]*vfs.MemFS{}, regions: map[antipode.Region]*Region{},
	}
	for _, f := range change {
		f(w.spec)
	}
	for _, r := range w.spec.Regions {
		w.disks[r.Name] = vfs.NewCrashableMem()
		w.start(r.Name)
	}
	return w
}

func (w *world) start(name antipode.Region) {
	w.t.Helper()
	r, err := Open(w.t.Context(), Config{
		Spec: w.spec, Name: name, Dir: "data", FS: w.disks[name], WAN: "geo", Network: w.network, Now: time.Now,
		Retention: w.retention,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.regions[name] = r
}

func (w *world) close() {
	for _, r := range w.regions {
		if err := r.Close(); err != nil {
			w.t.Errorf("close %s: %v", r.cfg.Name, err)
		}
	}
}

// crash replaces a region by one that finds only what was synced.
func (w *world) crash(name antipode.Region) {
	w.t.Helper()
	clone := w.disks[name].CrashClone(vfs.CrashCloneCfg{})
	if err := w.regions[name].Close(); err != nil {
		w.t.Fatal(err)
	}
	w.disks[name] = clone
}

// ready waits for all regions; it sleeps in the test's synctest bubble.
func (w *world) ready() {
	w.t.Helper()
	for name, r := range w.regions {
		select {
		case <-r.Ready():
		case err := <-r.Failed():
			w.t.Fatalf("%s failed: %v", name, err)
		case <-time.After(time.Minute):
			w.t.Fatalf("%s is not ready after a minute: %+v", name, r.Health())
		}
	}
	for len(w.regions["mumbai"].group.State().Tables) < 3 || len(w.regions["oregon"].group.State().Tables) < 3 {
		time.Sleep(10 * time.Millisecond) // in a synctest bubble
	}
}

func (w *world) put(at antipode.Region, name, key string) error {
	r := w.regions[at]
	d := r.data.Load()
	t, err := d.tables.Table(name)
	if err != nil {
		return err
	}
	payload := fmt.Appendf(nil, `{"TableName":%q,"Item":{"id":{"S":%q},"at":{"S":%q}}}`, name, key, at)
	op, k, err := dynamo.Compile("PutItem", payload, t)
	if err != nil {
		return err
	}
	_, err = d.tables.Write(context.Background(), table.WriteRequest{Table: t, Key: k, Op: op, Verb: "PutItem", Payload: payload})
	return err
}

func (w *world) has(at antipode.Region, name, key string) bool {
	w.t.Helper()
	d := w.regions[at].data.Load()
	t, err := d.tables.Table(name)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := d.tables.Get(context.Background(), t, table.Key{Partition: []byte(key)}, false, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return b != nil
}

func TestWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		time.Sleep(5 * time.Second) // until the journal connections are warm
		began := time.Now()
		for _, tc := range []struct {
			table string
			least time.Duration
		}{{"carts", 0}, {"users", 0}, {"catalog", 221 * time.Millisecond}} {
			start := time.Now()
			if err := w.put("mumbai", tc.table, "k"); err != nil {
				t.Fatalf("put to %s: %v", tc.table, err)
			}
			if took := time.Since(start); took < tc.least || took > tc.least+240*time.Millisecond {
				t.Errorf("a write to %s took %v", tc.table, took)
			}
			if !w.has("mumbai", tc.table, "k") {
				t.Errorf("mumbai does not see its write to %s", tc.table)
			}
		}
		time.Sleep(500 * time.Millisecond)
		for _, name := range []string{"carts", "users", "catalog"} {
			if !w.has("oregon", name, "k") {
				t.Errorf("oregon lacks %s after %v", name, time.Since(began))
			}
		}
	})
}

// TestCrashKeepsAcknowledged kills a region in the middle of writes and checks
// that every acknowledged one is there after its restart, everywhere.
func TestCrashKeepsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		var acked []string
		for i := range 200 {
			key := fmt.Sprint("k", i)
			if err := w.put("oregon", "carts", key); err != nil {
				t.Fatal(err)
			}
			acked = append(acked, key)
		}
		w.crash("oregon")
		w.start("oregon")
		w.ready()
		time.Sleep(5 * time.Second)
		for _, key := range acked {
			for _, at := range []antipode.Region{"oregon", "mumbai"} {
				if !w.has(at, "carts", key) {
					t.Fatalf("%s lacks %s, which was acknowledged", at, key)
				}
			}
		}
	})
}

// TestLostDisk starts a region over an empty disk: it comes back as a new author
// with everything that the others hold, and serves only then.
func TestLostDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		for i := range 100 {
			if err := errors.Join(w.put("oregon", "carts", fmt.Sprint("o", i)), w.put("mumbai", "carts", fmt.Sprint("m", i))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if err := w.regions["oregon"].Close(); err != nil {
			t.Fatal(err)
		}
		w.disks["oregon"] = vfs.NewCrashableMem()
		w.start("oregon")
		w.ready()
		for i := range 100 {
			if !w.has("oregon", "carts", fmt.Sprint("o", i)) || !w.has("oregon", "carts", fmt.Sprint("m", i)) {
				t.Fatalf("oregon serves without item %d", i)
			}
		}
		if got := w.regions["oregon"].data.Load().journal.Origin(); got.Incarnation != 2 {
			t.Errorf("origin after the loss: %s", got)
		}
		if err := w.put("oregon", "carts", "new"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if !w.has("mumbai", "carts", "new") {
			t.Error("mumbai lacks what the new incarnation wrote")
		}
	})
}

// TestLostDiskAfterCut starts a region over an empty disk after the others have
// cut their journals, while they go on writing: it is given copies of the shards.
func TestLostDiskAfterCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		for _, name := range []antipode.Region{"oregon", "mumbai"} {
			if err := w.regions[name].Close(); err != nil {
				t.Fatal(err)
			}
		}
		w.retention = time.Second
		w.start("oregon")
		w.start("mumbai")
		w.ready()
		put := func(at antipode.Region, prefix string, n int) {
			t.Helper()
			for i := range n {
				for _, name := range []string{"carts", "users"} {
					if err := w.put(at, name, fmt.Sprint(prefix, i)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		put("oregon", "o", 60)
		put("mumbai", "m", 60)
		time.Sleep(time.Minute)
		for _, id := range w.regions["mumbai"].data.Load().journal.Shards() {
			if w.regions["mumbai"].data.Load().journal.Shard(id).Floors() == nil {
				t.Fatalf("mumbai has cut nothing of %s", id)
			}
		}
		if err := w.regions["oregon"].Close(); err != nil {
			t.Fatal(err)
		}
		w.disks["oregon"] = vfs.NewCrashableMem()
		start := time.Now()
		w.start("oregon")
		for i := range 40 { // oregon is the arbiter of half of the users, so carts only
			if err := w.put("mumbai", "carts", fmt.Sprint("late", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		w.ready()
		if took := time.Since(start); took < grantsExpire {
			t.Errorf("oregon serves after %v, while births that it had allowed may be under way", took)
		}
		if w.regions["oregon"].data.Load().tables.Copies() == 0 {
			t.Error("no copy was taken")
		}
		for _, name := range []string{"carts", "users"} {
			for i := range 60 {
				if !w.has("oregon", name, fmt.Sprint("o", i)) || !w.has("oregon", name, fmt.Sprint("m", i)) {
					t.Fatalf("oregon serves without item %d of %s", i, name)
				}
			}
		}
		put("oregon", "new", 20)
		put("mumbai", "newer", 20)
		time.Sleep(2 * time.Second)
		for i := range 20 {
			if !w.has("mumbai", "users", fmt.Sprint("new", i)) || !w.has("oregon", "users", fmt.Sprint("newer", i)) || !w.has("oregon", "carts", fmt.Sprint("late", i)) {
				t.Fatalf("item %d did not arrive after the recovery", i)
			}
		}
	})
}

// pinned has no region take another one's place by itself.
func pinned(s *spec.Spec) {
	for i := range s.Tables {
		if s.Tables[i].Failover != "" {
			s.Tables[i].Failover = control.FailoverPinned
		}
	}
}

// TestWriterOutOfReach checks that writes to a pinned table whose writer is cut
// off fail in time with a word on which region, that reads go on, and that the cut
// region goes on by itself.
func TestWriterOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pinned)
		defer w.close()
		w.ready()
		if err := w.put("mumbai", "catalog", "k"); err != nil {
			t.Fatal(err)
		}
		for _, peer := range []antipode.Region{"mumbai", "frankfurt"} {
			if err := w.regions["oregon"].mesh.Cut(peer, link.Both); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		err := w.put("mumbai", "catalog", "k2")
		if took := time.Since(start); err == nil || took > 5*time.Second {
			t.Errorf("a write without its writer: %v after %v", err, took)
		}
		time.Sleep(10 * time.Second)
		start = time.Now()
		if err := w.put("mumbai", "catalog", "k3"); !errors.Is(err, table.ErrUnavailable) || time.Since(start) > 5*time.Second {
			t.Errorf("a write without its writer: %v after %v", err, time.Since(start))
		}
		if !w.has("mumbai", "catalog", "k") {
			t.Error("local reads stopped")
		}
		if err := errors.Join(w.put("oregon", "carts", "a"), w.put("mumbai", "carts", "b"), w.put("oregon", "catalog", "c")); err != nil {
			t.Errorf("writes that need nobody else: %v", err)
		}
		for _, peer := range []antipode.Region{"mumbai", "frankfurt"} {
			if err := w.regions["oregon"].mesh.Heal(peer); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if !w.has("mumbai", "carts", "a") || !w.has("oregon", "carts", "b") || !w.has("mumbai", "catalog", "c") {
			t.Error("not all arrived after the heal")
		}
	})
}

// TestOldCopy starts a region over an old copy of its disk: it says so and stops
// before it serves or writes anything under numbers that it has used already.
func TestOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		if err := w.put("oregon", "carts", "a"); err != nil {
			t.Fatal(err)
		}
		old := w.disks["oregon"].CrashClone(vfs.CrashCloneCfg{})
		for i := range 50 {
			if err := w.put("oregon", "carts", fmt.Sprint("b", i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if err := w.regions["oregon"].Close(); err != nil {
			t.Fatal(err)
		}
		w.disks["oregon"] = old
		w.start("oregon")
		select {
		case err := <-w.regions["oregon"].Failed():
			if !errors.Is(err, ship.ErrForgotten) {
				t.Errorf("failed for another reason: %v", err)
			}
		case <-w.regions["oregon"].Ready():
			t.Error("serves from an old copy")
		case <-time.After(time.Minute):
			t.Error("neither serves nor says why")
		}
	})
}
