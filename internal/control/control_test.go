package control_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

func must(tb testing.TB, s *control.State, c control.Command) *control.State {
	tb.Helper()
	next, err := control.Apply(s, s.Index+1, upToDate(s, c))
	if err != nil {
		tb.Fatal(err)
	}
	return next
}

func world(tb testing.TB) *control.State {
	tb.Helper()
	s := control.NewState()
	for _, r := range []control.Region{
		{Name: "oregon", Location: "us-west-2"},
		{Name: "mumbai", Location: "ap-south-1"},
		{Name: "frankfurt", Location: "eu-central-1", Witness: true},
	} {
		s = must(tb, s, control.Command{PutRegion: &r})
	}
	return s
}

func table(name string, change func(*control.Table)) control.Command {
	t := &control.Table{
		Name: name, Partition: control.KeyAttribute{Name: "id", Type: "S"},
		Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter,
		Replicas: []antipode.Region{"oregon", "mumbai"},
	}
	if change != nil {
		change(t)
	}
	return control.Command{CreateTable: t}
}

func TestTables(t *testing.T) {
	before := world(t)
	command := table("carts", func(t *control.Table) {
		t.ID, t.Epoch = 99, 99 // ignored
		t.Replicas = append(t.Replicas, "oregon")
	})
	s := must(t, before, command)
	if diff := cmp.Diff([]antipode.Region{"oregon", "mumbai", "oregon"}, command.CreateTable.Replicas); diff != "" {
		t.Errorf("the command was changed (-want +got):\n%s", diff)
	}
	if len(before.Tables) != 0 {
		t.Error("the state before was changed")
	}
	got := s.Tables["carts"]
	if diff := cmp.Diff([]antipode.Region{"mumbai", "oregon"}, got.Replicas); diff != "" {
		t.Errorf("replicas (-want +got):\n%s", diff)
	}
	if byID, ok := s.TableByID(1); !ok || byID != got || got.ID != 1 || got.Epoch != 1 {
		t.Errorf("got id %d, epoch %d; want 1, 1", got.ID, got.Epoch)
	}
	if got.Shards() != antipode.ShardSet([]antipode.Region{"oregon", "mumbai"}) {
		t.Error("its shards are not those of its replicas")
	}

	s = must(t, s, control.Command{TagTable: &control.TagTable{Name: "carts", Set: map[string]string{"a": "1", "b": "2"}}})
	tagged := s
	s = must(t, s, control.Command{TagTable: &control.TagTable{Name: "carts", Set: map[string]string{"a": "3"}, Remove: []string{"b", "c"}}})
	if diff := cmp.Diff(map[string]string{"a": "3"}, s.Tables["carts"].Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, tagged.Tables["carts"].Tags); diff != "" {
		t.Errorf("the state before was changed (-want +got):\n%s", diff)
	}
	if byID, _ := s.TableByID(1); byID != s.Tables["carts"] {
		t.Error("by id it is another table than by name")
	}

	s = must(t, s, control.Command{DeleteTable: "carts"})
	s = must(t, s, table("carts", nil))
	if got := s.Tables["carts"].ID; got != 2 {
		t.Errorf("made again it has id %d, want 2", got)
	}
	if _, ok := s.TableByID(1); ok {
		t.Error("the deleted one is still found by id")
	}
}

func TestRefused(t *testing.T) {
	s := must(t, world(t), table("carts", nil))
	for _, c := range []struct {
		name    string
		command control.Command
		want    error
	}{
		{"nothing", control.Command{}, control.ErrInvalid},
		{"two at once", control.Command{DeleteTable: "carts", TagTable: &control.TagTable{Name: "carts"}}, control.ErrInvalid},
		{"nameless region", control.Command{PutRegion: &control.Region{}}, control.ErrInvalid},
		{"nameless table", table("", nil), control.ErrInvalid},
		{"exists", table("carts", nil), control.ErrTableExists},
		{"no replicas", table("x", func(t *control.Table) { t.Replicas = nil }), control.ErrInvalid},
		{"unknown replica", table("x", func(t *control.Table) { t.Replicas = []antipode.Region{"tokyo"} }), control.ErrInvalid},
		{"witness", table("x", func(t *control.Table) { t.Replicas = []antipode.Region{"frankfurt"} }), control.ErrInvalid},
		{"no rule", table("x", func(t *control.Table) { t.Rule = "" }), control.ErrInvalid},
		{"no writer", table("x", func(t *control.Table) { t.Writes = antipode.WriteGlobal }), control.ErrInvalid},
		{"no mode", table("x", func(t *control.Table) { t.Writes = "" }), control.ErrInvalid},
		{"delete", control.Command{DeleteTable: "x"}, control.ErrNoTable},
		{"tag", control.Command{TagTable: &control.TagTable{Name: "x"}}, control.ErrNoTable},
		{"incarnate whom", control.Command{Incarnate: &control.Incarnate{Region: "tokyo"}}, control.ErrInvalid},
		{"incarnate late", control.Command{Incarnate: &control.Incarnate{Region: "oregon", Was: 1}}, control.ErrInvalid},
	} {
		next, err := control.Apply(s, 77, c.command)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if next.Index != 77 {
			t.Errorf("%s: index %d, want 77", c.name, next.Index)
		}
		if diff := cmp.Diff(s, next, cmpopts.IgnoreUnexported(control.State{}, control.Table{}), cmpopts.IgnoreFields(control.State{}, "Index")); diff != "" {
			t.Errorf("%s: it was refused and has changed something:\n%s", c.name, diff)
		}
	}
}

func TestIncarnations(t *testing.T) {
	s := must(t, world(t), control.Command{Incarnate: &control.Incarnate{Region: "oregon"}})
	last := map[antipode.Shard]uint64{antipode.ShardSet([]antipode.Region{"oregon"}): 12}
	s = must(t, s, control.Command{Incarnate: &control.Incarnate{Region: "oregon", Was: 1, Ending: &control.Ending{Incarnation: 1, Last: last}}})
	// What the spec says of a region leaves its history alone.
	s = must(t, s, control.Command{PutRegion: &control.Region{Name: "oregon", Location: "us-west-1"}})
	want := &control.Region{Name: "oregon", Location: "us-west-1", Incarnation: 2, Ended: []control.Ending{{Incarnation: 1, Last: last}}}
	if diff := cmp.Diff(want, s.Regions["oregon"]); diff != "" {
		t.Errorf("oregon (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]antipode.Region{"mumbai", "oregon"}, s.Members()); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := control.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again, cmpopts.IgnoreUnexported(control.State{}, control.Table{})); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

// TestDropped: a table of the spec that was deleted on request stays deleted, until
// it is made on request.
func TestDropped(t *testing.T) {
	spec := table("carts", func(t *control.Table) { t.FromSpec = true })
	s := must(t, must(t, world(t), spec), control.Command{DeleteTable: "carts"})
	if _, err := control.Apply(s, s.Index+1, spec); !errors.Is(err, control.ErrDropped) {
		t.Errorf("it was made again: %v", err)
	}
	s = must(t, s, table("carts", nil))
	if s.Tables["carts"] == nil || s.Dropped["carts"] {
		t.Error("it can't be made on request")
	}
}

// TestReroot: another machine takes the place of a region's lost one.
func TestReroot(t *testing.T) {
	s := must(t, world(t), control.Command{PutRegion: &control.Region{Name: "oregon", RootPEM: "old"}})
	s = must(t, s, control.Command{Incarnate: &control.Incarnate{Region: "oregon"}})
	// Who happens to know another root does not change the group's.
	s = must(t, s, control.Command{PutRegion: &control.Region{Name: "oregon", RootPEM: "other"}})
	for _, c := range []struct {
		control.Reroot
		want error
	}{
		{control.Reroot{Region: "paris", RootPEM: "new"}, control.ErrInvalid},
		{control.Reroot{Region: "oregon", Was: "old"}, control.ErrInvalid},
		{control.Reroot{Region: "oregon", Was: "older", RootPEM: "new"}, control.ErrStale},
	} {
		if _, err := control.Apply(s, s.Index+1, control.Command{Reroot: &c.Reroot}); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.Reroot, err)
		}
	}
	s = must(t, s, control.Command{Reroot: &control.Reroot{Region: "oregon", Was: "old", RootPEM: "new"}})
	if got := s.Regions["oregon"].RootPEM; got != "new" {
		t.Errorf("the root is %q", got)
	}

	// The new machine is another author; what is left of the old one keeps no lease.
	renew := func(incarnation uint32) error {
		_, err := control.Apply(s, s.Index+1, control.Command{Renew: &control.Renew{Region: "oregon", Length: 3000, Incarnation: incarnation}})
		return err
	}
	if err := renew(1); err != nil {
		t.Error(err)
	}
	s = must(t, s, control.Command{Incarnate: &control.Incarnate{Region: "oregon", Was: 1}})
	if err := renew(1); !errors.Is(err, control.ErrStale) {
		t.Errorf("a machine that was replaced renewed its lease: %v", err)
	}
	if err := renew(2); err != nil {
		t.Error(err)
	}
}

// FuzzDecode: what is taken can be used, and is written as it was read.
func FuzzDecode(f *testing.F) {
	b, err := must(f, world(f), table("carts", nil)).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"regions":null,"tables":null}`))
	f.Add([]byte(`{"regions":{"a":null},"tables":{"b":null},"next_table":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := control.Decode(b)
		if err != nil {
			return
		}
		first, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := control.Decode(first)
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%s", err, first)
		}
		second, err := again.Encode()
		if err != nil || string(first) != string(second) {
			t.Fatalf("written differently the second time: %v\n%s\n%s", err, first, second)
		}
		for _, c := range []control.Command{table("new", nil), {DeleteTable: "carts"}, {PutRegion: &control.Region{Name: "tokyo"}}} {
			_, _ = control.Apply(again, 9, c) // refused or not, it must not panic
		}
	})
}

func TestConfigure(t *testing.T) {
	s := must(t, world(t), table("carts", func(t *control.Table) { t.Options = []byte(`{"a":1}`) }))
	yes, no := true, false
	before := s
	s = must(t, s, control.Command{Configure: &control.Configure{Name: "carts", Was: []byte(`{"a":1}`), Options: []byte(`{"a":2}`), Protected: &yes}})
	if got := s.Tables["carts"]; string(got.Options) != `{"a":2}` || !got.Protected || string(before.Tables["carts"].Options) != `{"a":1}` {
		t.Errorf("%+v", got)
	}
	if byID, ok := s.TableByID(s.Tables["carts"].ID); !ok || byID != s.Tables["carts"] {
		t.Error("a table is two")
	}
	for _, c := range []struct {
		command control.Command
		want    error
	}{
		{control.Command{Configure: &control.Configure{Name: "carts", Was: []byte(`{"a":1}`), Options: []byte(`{"a":3}`)}}, control.ErrTableBusy},
		{control.Command{Configure: &control.Configure{Name: "nothere"}}, control.ErrNoTable},
		{control.Command{DeleteTable: "carts"}, control.ErrProtected},
	} {
		if next, err := control.Apply(s, s.Index+1, c.command); !errors.Is(err, c.want) || next.Tables["carts"] != s.Tables["carts"] {
			t.Errorf("%+v: %v, want %v", c.command, err, c.want)
		}
	}
	s = must(t, s, control.Command{Configure: &control.Configure{Name: "carts", Was: []byte(`{"a":2}`), Options: []byte(`{"a":2}`), Protected: &no}})
	must(t, s, control.Command{DeleteTable: "carts"})
}
