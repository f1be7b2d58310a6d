package model

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRoles walks all states of models small enough for every run of the tests,
// and with ANTIPODE_SOAK=1 those of two failovers and three writes with one of
// all else that can happen: 55 million states, five minutes.
func TestRoles(t *testing.T) {
	tests := []struct {
		name string
		soak bool
		cfg  RolesConfig
	}{
		{"two regions and a witness", false, RolesConfig{Regions: 2, Keys: 1, Writes: 3, Failovers: 2, Attempts: 1}},
		{"two regions, rpo 0", false, RolesConfig{Regions: 2, Keys: 1, Writes: 3, Failovers: 2, RPO: 1, Crashes: 1}},
		{"three regions", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2}},
		{"a crash", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 1, Crashes: 1}},
		{"rpo 0 by one", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, RPO: 1}},
		{"rpo 0 by two", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, RPO: 2}},
		{"homes", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 1, Partitioned: true, Handoffs: true}},
		{"births", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 1, Partitioned: true, Births: true, Deletes: true}},
		{"a read that takes its time", false, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 1, Reads: 1}},
		{"a forwarded write", false, RolesConfig{Regions: 2, Keys: 1, Writes: 2, Failovers: 2, Forwards: 1}},

		{"two regions, all", true, RolesConfig{Regions: 2, Keys: 1, Writes: 3, Failovers: 2, Crashes: 1, Reads: 1, Forwards: 1}},
		{"three writes", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Attempts: 1}},
		{"three writes of two keys", true, RolesConfig{Regions: 3, Keys: 2, Writes: 3, Failovers: 2}},
		{"three failovers", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 3}},
		{"three writes and a crash", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Crashes: 1}},
		{"three writes and a read", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Reads: 1}},
		{"three writes, one forwarded", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Forwards: 1}},
		{"a local table beside it", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, Locals: 1}},
		{"three writes, rpo 0 by one", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Attempts: 1, RPO: 1, Crashes: 1}},
		{"three writes, rpo 0 by two", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Attempts: 1, RPO: 2}},
		{"rpo 0 by two and a crash", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, RPO: 2, Crashes: 1}},
		{"rpo 0 by one and a read", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, RPO: 1, Reads: 1}},
		{"three writes at homes", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Partitioned: true, Handoffs: true}},
		{"homes of two keys", true, RolesConfig{Regions: 3, Keys: 2, Writes: 2, Failovers: 2, Partitioned: true}},
		{"homes, rpo 0 by one", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, Partitioned: true, Handoffs: true, RPO: 1}},
		{"homes and a crash", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 1, Partitioned: true, Handoffs: true, Crashes: 1}},
		{"three writes after births", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Partitioned: true, Births: true}},
		{"births after deletes", true, RolesConfig{Regions: 3, Keys: 1, Writes: 3, Failovers: 2, Partitioned: true, Births: true, Deletes: true}},
		{"births and a crash", true, RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, Partitioned: true, Births: true, Crashes: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.soak && !soaking() {
				t.Skip("larger model; ANTIPODE_SOAK=1 runs it")
			}
			test.cfg.MaxStates = 25_000_000 // some 5 GB of memory
			res, err := CheckRoles(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if res.Violation != "" || res.Truncated {
				t.Fatalf("after\n%v", res)
			}
			t.Logf("%d states, the farthest %d steps away", res.States, res.Depth)
		})
	}
}

// TestRolesBugs: without its rule, the protocol loses or invents something within
// a dozen steps.
func TestRolesBugs(t *testing.T) {
	one := RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 1}
	with := func(cfg RolesConfig, change func(*RolesConfig)) RolesConfig {
		change(&cfg)
		return cfg
	}
	two := with(one, func(c *RolesConfig) { c.Failovers = 2 })
	births := with(one, func(c *RolesConfig) { c.Partitioned, c.Births = true, true })
	reads := with(two, func(c *RolesConfig) { c.Reads = 1 })
	forwards := with(two, func(c *RolesConfig) { c.Forwards = 1 })
	zero := with(two, func(c *RolesConfig) { c.RPO = 1 })
	tests := map[RolesBug]struct {
		cfg  RolesConfig
		want string
	}{
		SkipFence:          {one, "stranded"},
		FenceWriterOnly:    {births, "stranded"},
		CheckBeforeAppend:  {one, "two timelines"},
		SkipAnswerCheck:    {one, "stranded"},
		SkipReadCheck:      {reads, "stranded"},
		ReadAnyEpoch:       {reads, "stranded"},
		SkipSeal:           {one, "stranded"},
		SealInMemory:       {with(one, func(c *RolesConfig) { c.Crashes = 1 }), "stranded"},
		SkipEqualise:       {zero, "rpo"},
		AckBeyond:          {zero, "rpo"},
		HearTooFew:         {zero, "rpo"},
		BoundOneOrigin:     {two, "unlisted"},
		BoundLastOnly:      {two, "unlisted"},
		ApplyBeyond:        {one, "stranded"},
		DropBeyond:         {one, "stuck"},
		ForgetStranded:     {one, "unlisted"},
		AuthorTakesOut:     {one, "item"},
		InstallEarly:       {one, "item"},
		FetchAnywhere:      {one, "item"},
		FetchFirst:         {two, "stale"},
		NoCutoffInEntry:    {one, "item"},
		CarryLastOnly:      {two, "item"},
		ActUncovered:       {births, "stale"},
		SettleNothing:      {two, "stranded"},
		LeanOnUnanswered:   {zero, "rpo"},
		LeanOnInherited:    {with(zero, func(c *RolesConfig) { c.RPO = 2 }), "rpo"},
		KeepOldGrant:       {births, "stale"},
		GrantUncovered:     {births, "stale"},
		RetryEarly:         {forwards, "twice"},
		ForwardAnyEpoch:    {forwards, "twice"},
		StoreBetween:       {zero, "rpo"},
		AcceptUnleased:     {with(two, func(c *RolesConfig) { c.Partitioned, c.Handoffs = true, true }), "unlisted"},
		RestoreBesideHeard: {with(births, func(c *RolesConfig) { c.Failovers = 2 }), "stale"},
	}
	for _, bug := range RolesBugs() {
		t.Run(string(bug), func(t *testing.T) {
			test, ok := tests[bug]
			if !ok {
				t.Fatal("no test for this bug")
			}
			test.cfg.Bugs = []RolesBug{bug}
			res, err := CheckRoles(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states\n%v", res.States, res)
			if !strings.HasPrefix(res.Violation, test.want) || len(res.Trace) > 12 {
				t.Errorf("got %q after %d steps, want it %s", res.Violation, len(res.Trace), test.want)
			}
		})
	}
}

// TestRolesRandomRuns goes where walking everything can't: all features at once.
func TestRolesRandomRuns(t *testing.T) {
	runs := 2000
	if soaking() {
		runs = 500_000
	}
	steps := 0
	defer func() { t.Logf("%d steps", steps) }()
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 3))
		cfg := RolesConfig{
			Regions: 2 + random.IntN(2), Keys: 1 + random.IntN(2), Writes: 4, Failovers: 3, Attempts: random.IntN(3),
			Reads: random.IntN(3), Locals: random.IntN(2), Crashes: random.IntN(3),
		}
		cfg.RPO = random.IntN(cfg.Regions)
		switch random.IntN(4) {
		case 0:
			cfg.Partitioned, cfg.Handoffs = true, true
		case 1:
			cfg.Partitioned, cfg.Births, cfg.Deletes, cfg.Handoffs = true, true, true, true
		default:
			cfg.Forwards = 1
		}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		m := newRoles(cfg)
		s := m.begin()
		res := RolesResult{}
		for range 90 {
			enabled := m.enabled(&s, nil)
			if len(enabled) == 0 {
				break
			}
			step := enabled[random.IntN(len(enabled))]
			if step.kind == doStall && random.IntN(3) > 0 {
				continue // else most runs crash before anything else has happened
			}
			res.Trace = append(res.Trace, step)
			m.do(&s, step)
			steps++
			if res.Violation = m.wrong(&s); res.Violation != "" {
				t.Fatalf("seed %d, %+v\n%v", seed, cfg, res)
			}
		}
	}
}

func TestRolesConfig(t *testing.T) {
	for _, cfg := range []RolesConfig{
		{},
		{Regions: 4, Keys: 1},
		{Regions: 3, Keys: 3},
		{Regions: 3, Keys: 1, RPO: 3},
		{Regions: 3, Keys: 1, Births: true},
		{Regions: 3, Keys: 1, Partitioned: true, Deletes: true},
		{Regions: 3, Keys: 1, Bugs: []RolesBug{"gremlins"}},
	} {
		if _, err := CheckRoles(cfg); !errors.Is(err, ErrRoles) {
			t.Errorf("%+v: got %v, want ErrRoles", cfg, err)
		}
	}
	res, err := CheckRoles(RolesConfig{Regions: 3, Keys: 1, Writes: 2, Failovers: 2, MaxStates: 1000})
	if err != nil || !res.Truncated || res.States < 1000 {
		t.Errorf("bounded: %+v, %v", res, err)
	}
}
