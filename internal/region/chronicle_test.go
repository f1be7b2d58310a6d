package region

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

func TestHappened(t *testing.T) {
	state := control.NewState()
	var got []string
	apply := func(c control.Command) {
		t.Helper()
		next, err := control.Apply(state, state.Index+1, c)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, happened(state, next)...)
		state = next
	}
	for _, name := range []antipode.Region{"mumbai", "oregon", "paris"} {
		apply(control.Command{PutRegion: &control.Region{Name: name}})
	}
	apply(control.Command{CreateTable: &control.Table{
		Name: "catalog", Partition: control.KeyAttribute{Name: "id", Type: "S"}, Failover: control.FailoverLease,
		Writes: antipode.WriteGlobal, Writer: "oregon", Replicas: []antipode.Region{"mumbai", "oregon"},
	}})
	role := control.RoleID{Table: state.Tables["catalog"].ID}
	apply(control.Command{Renew: &control.Renew{Region: "oregon"}})
	if len(got) > 0 {
		t.Errorf("said of what is nobody's business: %q", got)
	}
	apply(control.Command{Switch: &control.Switch{Roles: []control.RoleEpoch{{RoleID: role, Epoch: 1}}, To: "mumbai", By: "me"}})
	apply(control.Command{Took: &control.Took{Roles: []control.RoleEpoch{{RoleID: role, Epoch: 2}}, By: "mumbai"}})
	apply(control.Command{Fence: &control.Fence{
		Region: "mumbai", Assign: []control.Assignment{{Role: role, To: "oregon"}}, Why: "nobody reaches it", At: 1000,
	}})
	apply(control.Command{Seal: &control.Seal{Failover: 1, Region: "oregon", Fences: 1}})
	apply(control.Command{Fix: &control.Fix{Failover: 1, Fences: 1, At: 1400}})
	apply(control.Command{Rejoin: &control.Rejoin{Region: "mumbai", Number: state.Regions["mumbai"].Lease.Number}})
	want := []string{
		"writes of catalog are being switched from oregon to mumbai",
		"writes of catalog are accepted in mumbai, epoch 2",
		"mumbai is detached: its lease was ended",
		"failover 1: oregon takes over 1 roles of mumbai: nobody reaches it",
		"writes of catalog are accepted in oregon, epoch 3",
		"failover 1: oregon has taken over 1 roles of mumbai, after 400 ms",
		"mumbai is back and has a lease again",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the chronicle (-want +got):\n%s", diff)
	}
}
