package model

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestTenures walks all states of models small enough for every run of the tests,
// and with ANTIPODE_SOAK=1 those of larger ones; of the largest, with four
// regions, the first millions.
func TestTenures(t *testing.T) {
	tests := []struct {
		name    string
		soak    bool
		partial bool
		cfg     TenuresConfig
	}{
		{"homes", false, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Handoffs: true}},
		{"a region comes back", false, false, TenuresConfig{Regions: 3, Writes: 1, Failovers: 2, Rejoins: 1}},
		{"a switch", false, false, TenuresConfig{Regions: 3, Writes: 1, Failovers: 1, Switches: 1}},
		{"a switch called off", false, false, TenuresConfig{Regions: 3, Writes: 1, Failovers: 1, Switches: 1, Cancels: 1}},
		{"a birth", false, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Births: true}},

		{"three writes at homes", true, false, TenuresConfig{Regions: 3, Writes: 3, Failovers: 2, Handoffs: true}},
		{"homes, and a region comes back", true, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 2, Handoffs: true, Rejoins: 1}},
		{"births, and a region comes back", true, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 2, Births: true, Rejoins: 1}},
		{"homes and a switch", true, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Switches: 1, Handoffs: true, Rejoins: 1}},
		{"births and a switch", true, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Switches: 1, Births: true}},
		{"a switch called off, and another", true, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Switches: 2, Cancels: 1, Rejoins: 1}},
		{"births and a switch called off", true, false, TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Switches: 1, Cancels: 1, Births: true}},
		{"births with four regions, once", true, false, TenuresConfig{Regions: 4, Writes: 2, Failovers: 1, Births: true}},
		{"births with four regions", true, true, TenuresConfig{Regions: 4, Writes: 2, Failovers: 2, Births: true}},
		{"homes with four regions", true, true, TenuresConfig{Regions: 4, Writes: 2, Failovers: 2, Handoffs: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.soak && !soaking() {
				t.Skip("larger model; ANTIPODE_SOAK=1 runs it")
			}
			test.cfg.MaxStates = 25_000_000
			if test.partial {
				test.cfg.MaxStates = 5_000_000
			}
			res, err := CheckTenures(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if res.Violation != "" || res.Truncated && !test.partial {
				t.Fatalf("after\n%v", res)
			}
			t.Logf("%d states, the farthest %d steps away, all of them: %v", res.States, res.Depth, !res.Truncated)
		})
	}
}

// TestTenuresBugs: without its rule, the protocol loses or invents something.
func TestTenuresBugs(t *testing.T) {
	homes := TenuresConfig{Regions: 3, Writes: 2, Failovers: 2, Handoffs: true}
	back := TenuresConfig{Regions: 3, Writes: 2, Failovers: 2, Handoffs: true, Rejoins: 1}
	births := TenuresConfig{Regions: 3, Writes: 2, Failovers: 2, Births: true}
	switches := TenuresConfig{Regions: 3, Writes: 2, Failovers: 1, Switches: 1}
	off := TenuresConfig{Regions: 3, Writes: 1, Failovers: 1, Switches: 1, Cancels: 1}
	four := TenuresConfig{Regions: 4, Writes: 2, Failovers: 2, Births: true}
	tests := map[TenuresBug]struct {
		cfg  TenuresConfig
		want string
		soak bool
	}{
		SealOne:        {homes, "stale", false},
		KeepSeals:      {four, "stale", false},
		CoverSome:      {homes, "stranded", false},
		FixBesideLive:  {homes, "stranded", false},
		BoundOneTenure: {homes, "listed", false},
		CarryOwnRoles:  {four, "diverged", true},
		CarryNoSeals:   {births, "diverged", true},
		OldGrantBears:  {births, "stale", false},
		RejoinEarly:    {back, "stranded", false},
		OpenUnreleased: {switches, "stale", false},
		WriteReleased:  {switches, "stale", false},
		BearUnopened:   {four, "diverged", true},
		PullUnlearned:  {back, "stranded", false},
		ReleaseUntold:  {off, "orphaned", false},
		CancelLeft:     {off, "orphaned", false},
		ReleaseForgets: {TenuresConfig{Regions: 3, Writes: 2, Switches: 1, Births: true}, "stale", false},
	}
	for _, bug := range TenuresBugs() {
		t.Run(string(bug), func(t *testing.T) {
			test, ok := tests[bug]
			if !ok {
				t.Fatal("no test for this bug")
			}
			if test.soak && !soaking() {
				t.Skip("it shows late; ANTIPODE_SOAK=1 looks for it")
			}
			test.cfg.Bugs = []TenuresBug{bug}
			if bug == CarryOwnRoles {
				t.Skip("too late for a walk; TestTenuresLate goes there directly")
			}
			test.cfg.MaxStates = 12_000_000
			res, err := CheckTenures(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states\n%v", res.States, res)
			if !strings.HasPrefix(res.Violation, test.want) {
				t.Errorf("got %q, want it %s", res.Violation, test.want)
			}
		})
	}
}

// TestTenuresLate goes to what a walk found after six million states: a fenced
// region hears of one failover by its successor's first entry, and of the other,
// of another role, not at all.
func TestTenuresLate(t *testing.T) {
	steps := []TenuresStep{
		{tenGrant, 0, 1, 0},
		{tenFence, 0, 2, 0},
		{tenBear, 1, 0, 0},
		{tenFence, 1, 3, 0},
		{tenSeal, 2, 2, 0},
		{tenSeal, 2, 3, 0},
		{tenSeal, 3, 2, 0},
		{tenSeal, 3, 3, 0},
		{tenFix, 3, 3, 0},
		{tenFix, 2, 2, 0},
		{tenDeliver, 0, 2, 1},
		{tenDeliver, 1, 2, 1},
		{tenGrant, 2, 2, 0},
		{tenBear, 2, 0, 0},
		{tenDeliver, 0, 2, 2},
		{tenDeliver, 0, 1, 1},
		{tenDeliver, 1, 2, 2},
	}
	for _, bugs := range [][]TenuresBug{nil, {CarryOwnRoles}} {
		m := newTenures(TenuresConfig{Regions: 4, Writes: 2, Failovers: 2, Births: true, Bugs: bugs})
		s := m.begin()
		wrong := ""
		for _, step := range steps {
			if !slices.Contains(m.enabled(&s, nil), step) {
				t.Fatalf("%v: %v can't be done", bugs, step)
			}
			m.do(&s, step)
			if wrong = m.wrong(&s); wrong != "" {
				break
			}
		}
		if strings.HasPrefix(wrong, "diverged") != (bugs != nil) {
			t.Errorf("%v: %q", bugs, wrong)
		}
	}
}

// TestTenuresRandomRuns goes where walking everything can't.
func TestTenuresRandomRuns(t *testing.T) {
	runs := 2000
	if soaking() {
		runs = 500_000
	}
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 4))
		cfg := TenuresConfig{
			Regions: 3 + random.IntN(2), Writes: 3, Failovers: 2 + random.IntN(2), Switches: random.IntN(2) * 2, Rejoins: random.IntN(3),
			Births: random.IntN(2) == 0, Handoffs: random.IntN(3) > 0,
		}
		cfg.Switches = min(cfg.Switches, tenureEvents-2-cfg.Failovers)
		cfg.Cancels = random.IntN(cfg.Switches + 1)
		m := newTenures(cfg)
		s := m.begin()
		res := TenuresResult{}
		for range 150 {
			enabled := m.enabled(&s, nil)
			if len(enabled) == 0 {
				break
			}
			step := enabled[random.IntN(len(enabled))]
			if (step.kind == tenFence || step.kind == tenSwitch) && random.IntN(3) > 0 {
				continue // else most runs fail over before anything else has happened
			}
			res.Trace = append(res.Trace, step)
			m.do(&s, step)
			if res.Violation = m.wrong(&s); res.Violation != "" {
				t.Fatalf("seed %d, %+v\n%v", seed, cfg, res)
			}
		}
	}
}

func TestTenuresConfig(t *testing.T) {
	for _, cfg := range []TenuresConfig{
		{}, {Regions: 5}, {Regions: 3, Writes: 9}, {Regions: 3, Failovers: 5}, {Regions: 3, Bugs: []TenuresBug{"gremlins"}}, {Regions: 3, Cancels: 1},
	} {
		if _, err := CheckTenures(cfg); !errors.Is(err, ErrTenures) {
			t.Errorf("%+v: got %v, want ErrTenures", cfg, err)
		}
	}
}

func TestNamings(t *testing.T) {
	for n, want := range []int{2: 1, 3: 2, 4: 6} {
		got := namings(n)
		if n > 1 && len(got) != want {
			t.Errorf("%d ways to name %d regions, want %d", len(got), n, want)
		}
		for _, w := range got {
			for old, name := range w.to {
				if w.from[name] != uint8(old) || (old == 0 || old >= n) && int(name) != old {
					t.Errorf("%d regions: %v", n, w)
				}
			}
		}
	}
}
