package table_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// TestRandomRoles has regions write, be lost, come back, hand roles over and
// crash in any order, with a ledger of what was acknowledged. In the end all
// regions have the same items with one timeline each, and each acknowledged write
// is in its item once, or listed as stranded. SEED and SEEDS choose the runs.
func TestRandomRoles(t *testing.T) {
	first, n := uint64(1), 6
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		check(t, err)
		first, n = seed, 1
	} else if text := os.Getenv("SEEDS"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		check(t, err)
	}
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomRoles(t, seed) })
		if t.Failed() {
			t.Fatalf("SEED=%d", seed)
		}
	}
}

// ledger is what clients were told.
type ledger struct {
	*cluster

	rng   *rand.Rand
	next  int
	acked map[string]bool // table/key/token: acknowledged; false: outcome unknown
	trace []string
}

var roleRegions = []antipode.Region{oregon, mumbai, paris}

func randomRoles(t *testing.T, seed uint64) {
	t.Helper()
	l := &ledger{cluster: three(t), rng: rand.New(rand.NewPCG(seed, 1)), acked: map[string]bool{}}
	l.patience = 5 * time.Millisecond
	for _, r := range roleRegions {
		l.restart(r)
	}
	defer func() {
		if t.Failed() {
			t.Log(strings.Join(l.trace, "\n"))
		}
	}()
	l.answer = func(antipode.Region, antipode.Region, string) error {
		if l.rng.IntN(20) == 0 {
			return errors.New("connection reset")
		}
		return nil
	}
	for range 250 {
		l.act()
		if t.Failed() {
			return
		}
	}
	l.patience, l.answer = time.Second, nil
	l.heal()
	l.check()
	t.Logf("%d writes, %d failovers, %d stranded", len(l.acked), l.state.LastFailover, len(l.stranded(oregon, "")))
}

func (l *ledger) say(format string, args ...any) {
	l.trace = append(l.trace, fmt.Sprintf(format, args...))
}

func (l *ledger) pick() antipode.Region { return roleRegions[l.rng.IntN(3)] }

func (l *ledger) lostNow() (out []antipode.Region) {
	for _, r := range roleRegions {
		if l.stale[r] != nil || l.state.Regions[r].Lease.Fenced {
			out = append(out, r)
		}
	}
	return out
}

func (l *ledger) act() {
	switch n := l.rng.IntN(100); {
	case n < 46:
		l.writeSome()
	case n < 50:
		at, to, key := l.pick(), l.pick(), fmt.Sprint("k", l.rng.IntN(5))
		err := l.regions[at].ts.Move(context.Background(), l.ref("users"), table.Key{Partition: []byte(key)}, to)
		l.say("move %s to %s in %s: %v", key, to, at, err)
	case n < 62:
		from, to := l.pick(), l.pick()
		if from != to && !l.cut[[2]antipode.Region{from, to}] {
			l.carry(from, to)
		}
	case n < 66:
		l.exchange()
	case n < 80:
		r := l.pick()
		l.say("steps %s", r)
		l.steps(r)
	case n < 84:
		r := l.pick()
		l.say("restart %s", r)
		l.restart(r)
	case n < 88:
		if r := l.pick(); len(l.lostNow()) < 2 && l.stale[r] == nil {
			l.say("isolate %s", r)
			l.isolate(r)
		}
	case n < 93:
		for _, r := range l.lostNow() {
			if !l.state.Regions[r].Lease.Fenced {
				l.fenceAway(r)
				return
			}
		}
	case n < 95:
		l.backSome()
	case n < 97:
		if lost := l.lostNow(); len(lost) > 0 {
			r := lost[l.rng.IntN(len(lost))]
			l.say("rejoin %s", r)
			l.rejoin(r)
		}
	default:
		l.handOver()
	}
}

func (l *ledger) writeSome() {
	at, tbl, key := l.pick(), []string{"catalog", "users"}[l.rng.IntN(2)], fmt.Sprint("k", l.rng.IntN(5))
	l.next++
	token := fmt.Sprintf("%d,", l.next)
	err := l.write(at, tbl, key, "append "+token)
	l.say("write %s in %s to %s/%s: %v", token, at, tbl, key, err)
	switch name := tbl + "/" + key + "/" + token; {
	case err == nil:
		l.acked[name] = true
	case errors.Is(err, table.ErrOutcomeUnknown):
		l.acked[name] = false
	case !errors.Is(err, table.ErrUnavailable):
		l.t.Errorf("write: %v", err)
	}
}

// backSome gives lost regions a lease again that have learned what they missed.
func (l *ledger) backSome() {
	for _, r := range roleRegions {
		ready := l.stale[r] == nil && l.state.Regions[r].Lease.Fenced
		for id, f := range l.state.Failovers {
			ready = ready && f.Cutoff != nil && l.regions[r].ts.Installed(id)
		}
		if ready {
			l.say("back %s", r)
			l.back(r)
		}
	}
}

// fenceAway gives the roles of a lost region to one that is not.
func (l *ledger) fenceAway(lost antipode.Region) {
	for _, to := range roleRegions {
		if to != lost && l.stale[to] == nil && !l.state.Regions[to].Lease.Fenced {
			l.say("fence %s, to %s", lost, to)
			l.fence(lost, to)
			return
		}
	}
}

func (l *ledger) handOver() {
	ids := []control.RoleID{l.role("catalog", ""), l.role("users", oregon), l.role("users", mumbai)}
	id, to := ids[l.rng.IntN(3)], l.pick()
	t, _ := l.state.TableByID(id.Table)
	r := t.Role(id.Home)
	f := l.state.Failovers[r.Failover]
	if r.Next != "" && !r.Leaving && l.rng.IntN(2) == 0 {
		l.say("call the switch of %v off", id)
		l.apply(control.Command{CallOff: &control.CallOff{To: r.Next, Roles: []control.RoleEpoch{{RoleID: id, Epoch: r.Epoch}}}})
		return
	}
	if r.Next != "" || l.state.Regions[to].Lease.Fenced || l.state.Regions[r.Holder].Lease.Fenced || f != nil && f.Cutoff == nil {
		return
	}
	l.say("switch %v to %s", id, to)
	l.switchTo(to, id)
}

func (l *ledger) heal() {
	for _, r := range roleRegions {
		l.rejoin(r)
	}
	for range 4 {
		l.settle()
		for _, r := range roleRegions {
			def := l.state.Regions[r]
			if def.Lease.Fenced {
				l.back(r)
			}
			delete(l.unhold, r)
		}
	}
}

func (l *ledger) check() {
	for id, f := range l.state.Failovers {
		if f.Cutoff == nil {
			l.t.Errorf("failover %d never ended: %+v", id, f)
		}
	}
	stranded := map[string]int{}
	all, err := l.regions[oregon].ts.Stranded(context.Background(), "")
	check(l.t, err)
	for _, s := range all {
		tokens := strings.SplitAfter(string(s.Body), ",")
		if len(tokens) > 1 {
			stranded[s.Table+"/"+string(s.Key.Partition)+"/"+tokens[len(tokens)-2]]++
		}
	}
	for _, r := range roleRegions[1:] {
		if a, b := l.stranded(oregon, ""), l.stranded(r, ""); !slices.Equal(a, b) {
			l.t.Errorf("oregon lists %q, %s %q", a, r, b)
		}
	}
	for _, tbl := range []string{"catalog", "users"} {
		for i := range 5 {
			key := fmt.Sprint("k", i)
			body := l.read(oregon, tbl, key, true)
			l.wantRead(tbl, key, body)
			seen := map[string]int{}
			for _, token := range strings.SplitAfter(body, ",") {
				if seen[token]++; seen[token] > 1 {
					l.t.Errorf("%s/%s has %s twice: %s", tbl, key, token, body)
				}
			}
			for name, sure := range l.acked {
				if token, ok := strings.CutPrefix(name, tbl+"/"+key+"/"); ok && sure && seen[token] == 0 && stranded[name] == 0 {
					l.t.Errorf("%s was acknowledged, is not in %q and not listed", name, body)
				}
			}
		}
	}
	for _, r := range roleRegions {
		if n := count(l.t, l.regions[r], 'p'); n != 0 {
			l.t.Errorf("%d items are pending in %s", n, r)
		}
		check(l.t, l.write(r, "catalog", "k0", "append end,"))
		check(l.t, l.write(r, "users", "k0", "append end,"))
	}
}
