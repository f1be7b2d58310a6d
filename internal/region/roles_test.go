package region

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/failover"
	"github.com/antipode-io/antipode/internal/spec"
)

// alone adds a table that only oregon keeps, and has nothing move by itself.
func alone(s *spec.Spec) {
	pinned(s)
	s.Tables = append(s.Tables, spec.Table{
		Name: "alone", Key: spec.Key{Partition: spec.KeyAttribute{Name: "id", Type: "S"}}, Writes: antipode.WriteGlobal, Writer: "oregon",
		Replicas: []antipode.Region{"oregon"}, Failover: control.FailoverPinned, Return: control.ReturnManual,
	})
}

func refuses(t *testing.T, what string, err, class error, says string) {
	t.Helper()
	if !errors.Is(err, class) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v; want %v that says %q", what, err, class, says)
	}
}

// TestFailoverByPerson gives away the roles of pinned tables, which nothing does
// by itself, and is asked for what can't be.
func TestFailoverByPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, alone)
		defer w.close()
		w.ready()
		w.eventually(20*time.Second, "all tables are there", func() bool { return len(w.stateOf("mumbai").Tables) == 4 })
		w.eventually(5*time.Second, "oregon has a lease", func() bool { return w.leased("oregon") })
		mumbai := w.regions["mumbai"]
		ask := func(lost antipode.Region) (operator.FailoverResult, error) {
			return mumbai.Failover(t.Context(), operator.FailoverRequest{Region: lost, By: "me", Why: "fire"})
		}
		_, err := ask("oregon")
		refuses(t, "of a live region", err, operator.ErrConflict, "oregon is alive; use `antipode switch oregon --to REGION`")
		_, err = ask("mumbai")
		refuses(t, "of itself", err, operator.ErrInvalid, "it is not lost")
		_, err = ask("frankfurt")
		refuses(t, "of a witness", err, operator.ErrNotFound, "not a region that stores tables")

		w.isolate("oregon")
		time.Sleep(20 * time.Second)
		if r := w.stateOf("mumbai").Tables["catalog"].Role(""); r.Holder != "oregon" {
			t.Fatalf("a pinned role moved by itself: %+v", r)
		}
		if err := w.put("oregon", "catalog", "pinned"); err != nil {
			t.Errorf("a pinned writer stops when it is cut off: %v", err)
		}
		_, err = mumbai.Switch(t.Context(), operator.SwitchRequest{Region: "oregon", To: "mumbai", By: "me"})
		refuses(t, "switch from a lost region", err, operator.ErrConflict, "is detached and can't hand over")
		_, err = mumbai.Switch(t.Context(), operator.SwitchRequest{Table: "users", To: "oregon", By: "me"})
		refuses(t, "switch to a lost region", err, operator.ErrConflict, "oregon is detached")

		out, err := ask("oregon")
		if err != nil || out.Pending || out.Forced || len(out.Roles) != 2 || !slices.Equal(out.Left, []string{"alone"}) {
			t.Errorf("failover: %+v, %v", out, err)
		}
		if err := w.put("mumbai", "catalog", "k"); err != nil {
			t.Errorf("write after the failover: %v", err)
		}
		_, err = ask("oregon")
		refuses(t, "again", err, operator.ErrConflict, "no other region that keeps alone is reached")
		list, err := mumbai.Failovers(t.Context())
		if err != nil || len(list.Failovers) != 1 || list.Failovers[0].By != "me" || list.Failovers[0].Why != "fire" || list.Failovers[0].Fixed == 0 {
			t.Errorf("list: %+v, %v", list, err)
		}

		// The minority side is told what its word would mean.
		_, err = w.regions["oregon"].Failover(t.Context(), operator.FailoverRequest{Region: "mumbai", By: "me"})
		refuses(t, "without a majority", err, operator.ErrUnavailable, "oregon reaches 1 of 3 voters")
		_, err = w.regions["oregon"].Switch(t.Context(), operator.SwitchRequest{Table: "catalog", To: "oregon", By: "me"})
		refuses(t, "switch of what it believes to have", err, operator.ErrUnavailable, "oregon reaches 1 of 3 voters")
		w.heal("oregon")
		w.eventually(20*time.Second, "oregon is back", func() bool {
			l := w.stateOf("oregon").Regions["oregon"].Lease
			return !l.Fenced && l.Number == 2
		})
		w.eventually(20*time.Second, "what oregon wrote alone is listed", func() bool {
			list, err := mumbai.Stranded(t.Context(), "oregon")
			return err == nil && len(list) == 1
		})
		stranded, err := mumbai.Stranded(t.Context(), "oregon")
		if err != nil {
			t.Fatal(err)
		}
		done, err := mumbai.DecideStranded(t.Context(), operator.DecideRequest{Dots: []string{stranded[0].Dot}, Restore: true, By: "me"})
		if err != nil || len(done) != 1 || done[0].Error != "" {
			t.Errorf("restore: %v, %v", done, err)
		}
		w.eventually(5*time.Second, "the restored write is everywhere", func() bool { return w.has("oregon", "catalog", "pinned") })
		done, err = mumbai.DecideStranded(t.Context(), operator.DecideRequest{Dots: []string{stranded[0].Dot}, By: "me"})
		if err != nil || len(done) != 1 || !strings.Contains(done[0].Error, "it was restored by me") {
			t.Errorf("decided twice: %v, %v", done, err)
		}
	})
}

// TestSwitchRefused: a switch that would stall is not begun.
func TestSwitchRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		r := w.regions["oregon"]
		s := r.group.State()
		c := &control.Switch{To: "mumbai", Roles: []control.RoleEpoch{{RoleID: control.RoleID{Table: s.Tables["catalog"].ID}, Epoch: 1}}}
		both := []antipode.Region{"mumbai", "oregon"}
		for what, tc := range map[string]struct {
			heir  *failover.Report
			class error
			says  string
		}{
			"silent":      {nil, operator.ErrUnavailable, "can't be reached from oregon"},
			"starting":    {&failover.Report{Reaches: both}, operator.ErrUnavailable, "mumbai is starting"},
			"clock":       {&failover.Report{Serving: true, Reaches: both, Refuses: "its clock is ahead"}, operator.ErrConflict, "mumbai accepts no writes: its clock is ahead"},
			"cut off":     {&failover.Report{Serving: true, Reaches: both[:1]}, operator.ErrUnavailable, "can't reach each other"},
			"not heard":   {&failover.Report{Serving: true, Reaches: both}, operator.ErrUnavailable, "can't tell how far"},
			"lagging":     {&failover.Report{Serving: true, Reaches: both, Lag: map[antipode.Region]time.Duration{"oregon": 12 * time.Second}}, operator.ErrConflict, "behind oregon by 12s"},
			"all is well": {&failover.Report{Serving: true, Reaches: both, Lag: map[antipode.Region]time.Duration{"oregon": time.Second}}, nil, ""},
		} {
			v := failover.View{Reports: map[antipode.Region]failover.Report{}}
			if tc.heir != nil {
				v.Reports["mumbai"] = *tc.heir
			}
			err := r.checkHeir(v, s, c)
			if tc.class == nil {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			refuses(t, what, err, tc.class, tc.says)
		}
		_, err := r.group.Propose(t.Context(), control.Command{Switch: &control.Switch{To: "mumbai", Roles: []control.RoleEpoch{{RoleID: c.Roles[0].RoleID, Epoch: 9}}}})
		refuses(t, "a stale command", told(err), operator.ErrConflict, "look again with `antipode status`")
	})
}
