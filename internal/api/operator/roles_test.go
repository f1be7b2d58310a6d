package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

func (f *fake) Switch(_ context.Context, q SwitchRequest) (SwitchStatus, error) {
	f.note("switch %s%s to %s by %s: %s", q.Table, q.Region, q.To, q.By, q.Why)
	if q.To == "dublin" {
		return SwitchStatus{}, fmt.Errorf("dublin is 12 s behind oregon: %w", ErrConflict)
	}
	return SwitchStatus{Roles: []RoleStatus{{Table: "users", Home: "oregon", Holder: q.To, Epoch: 2}}, Skipped: []string{"few"}}, nil
}

func (f *fake) Failover(_ context.Context, q FailoverRequest) (FailoverResult, error) {
	f.note("failover of %s, force %v, by %s: %s", q.Region, q.Force, q.By, q.Why)
	return FailoverResult{Roles: []RoleStatus{{Table: "catalog", Holder: "mumbai", Epoch: 2}}, Forced: q.Force, Left: []string{"few"}}, nil
}

func failovers() FailoverList {
	return FailoverList{
		Failovers: []FailoverStatus{{ID: 3, Lost: "oregon", Successor: "mumbai", Roles: []RoleStatus{{Table: "catalog", Epoch: 2}}, WaitsFor: []antipode.Region{"tokyo"}}},
		Leases:    []LeaseStatus{{Region: "oregon", Condition: "detached", Fenced: true, AgeMS: 4000}},
	}
}

func (f *fake) Failovers(context.Context) (FailoverList, error) { return failovers(), nil }

func stranded(region antipode.Region) []Stranded {
	return []Stranded{{Dot: string(region) + ":1/1:2", Table: "catalog", Key: json.RawMessage(`{"id":{"S":"a"}}`), Kind: "write", Item: json.RawMessage("null"), State: "open", Now: json.RawMessage("null")}}
}

func (f *fake) Stranded(_ context.Context, region antipode.Region) ([]Stranded, error) {
	return stranded(region), nil
}

func (f *fake) DecideStranded(_ context.Context, q DecideRequest) ([]Decision, error) {
	f.note("decide %v, restore %v, force %v, by %s", q.Dots, q.Restore, q.Force, q.By)
	return []Decision{{Dot: q.Dots[0], Error: "it has changed"}}, nil
}

// TestRoleCalls: what goes in at the client comes out at the region, and back;
// what can't be meant does not reach it.
func TestRoleCalls(t *testing.T) {
	f := &fake{ready: true}
	c, _ := serve(t, f)
	ctx := t.Context()
	check(t, "switch", SwitchStatus{Roles: []RoleStatus{{Table: "users", Home: "oregon", Holder: "mumbai", Epoch: 2}}, Skipped: []string{"few"}})(
		c.Switch(ctx, SwitchRequest{Region: "oregon", To: "mumbai", By: "me", Why: "repairs"}))
	check(t, "failover", FailoverResult{Roles: []RoleStatus{{Table: "catalog", Holder: "mumbai", Epoch: 2}}, Forced: true, Left: []string{"few"}})(
		c.Failover(ctx, FailoverRequest{Region: "oregon", Force: true, By: "me", Why: "fire"}))
	check(t, "failovers", failovers())(c.Failovers(ctx))
	check(t, "stranded", stranded("oregon"))(c.Stranded(ctx, "oregon"))
	check(t, "stranded of all", stranded(""))(c.Stranded(ctx, ""))
	check(t, "restore", []Decision{{"oregon:1/1:2", "it has changed"}})(c.DecideStranded(ctx, DecideRequest{Dots: []string{"oregon:1/1:2"}, Restore: true, Force: true, By: "me"}))
	check(t, "discard", []Decision{{"oregon:1/1:2", "it has changed"}})(c.DecideStranded(ctx, DecideRequest{Dots: []string{"oregon:1/1:2"}, By: "me"}))
	asked := []string{
		"switch oregon to mumbai by me: repairs", "failover of oregon, force true, by me: fire",
		"decide [oregon:1/1:2], restore true, force true, by me", "decide [oregon:1/1:2], restore false, force false, by me",
	}
	if diff := cmp.Diff(asked, f.asked); diff != "" {
		t.Errorf("-want +asked\n%s", diff)
	}

	f.asked = nil
	one := func(_ any, err error) error { return err }
	for what, test := range map[string]struct {
		err  error
		says string
	}{
		"switch both":       {one(c.Switch(ctx, SwitchRequest{Table: "a", Region: "b", To: "c", By: "me"})), "a table or a region"},
		"switch nothing":    {one(c.Switch(ctx, SwitchRequest{To: "c", By: "me"})), "a table or a region"},
		"switch to nobody":  {one(c.Switch(ctx, SwitchRequest{Table: "a", By: "me"})), "whom to switch to"},
		"switch by nobody":  {one(c.Switch(ctx, SwitchRequest{Table: "a", To: "b"})), "not who asks"},
		"failover of none":  {one(c.Failover(ctx, FailoverRequest{By: "me"})), "the region that is lost"},
		"failover by none":  {one(c.Failover(ctx, FailoverRequest{Region: "a"})), "not who asks"},
		"decide nothing":    {one(c.DecideStranded(ctx, DecideRequest{By: "me"})), "no stranded write"},
		"decide by nobody":  {one(c.DecideStranded(ctx, DecideRequest{Dots: []string{"a"}})), "not who asks"},
		"discard by force":  {one(c.DecideStranded(ctx, DecideRequest{Dots: []string{"a"}, Force: true, By: "me"})), "needs no force"},
		"unknown field":     {c.call(ctx, "POST", "/v1/failover", map[string]string{"regin": "a"}, nil), "unknown field"},
		"not while it lags": {one(c.Switch(ctx, SwitchRequest{Table: "a", To: "dublin", By: "me"})), "12 s behind"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.says) || !errors.Is(test.err, ErrInvalid) && !errors.Is(test.err, ErrConflict) {
			t.Errorf("%s: %v", what, test.err)
		}
	}
	if len(f.asked) != 1 {
		t.Errorf("the region was asked %q", f.asked)
	}
	if _, err := (&Client{Addr: c.Addr, Token: "x", HTTP: c.HTTP}).Failover(ctx, FailoverRequest{Region: "a", By: "me"}); !errors.Is(err, ErrToken) {
		t.Errorf("a stranger may ask for a failover: %v", err)
	}
}
