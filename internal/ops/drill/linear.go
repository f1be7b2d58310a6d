package drill

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Time to judge one register's history, and all of them.
const (
	judgeOne = 3 * time.Second
	judgeMax = 400 // histories that are judged at most
)

// access is an operation on a register.
type access struct {
	write bool
	value int64
}

// register is an item of which there is one copy.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, input, output any) (bool, any) {
			was, ok1 := state.(int64)
			in, ok2 := input.(access)
			found, ok3 := output.(int64)
			switch {
			case !ok1 || !ok2 || !ok3:
				return false, state
			case in.write:
				return true, in.value
			}
			return found == was, was
		},
	}
}

// answers: in tables with one timeline per item, each register behaves as if
// there were one copy of it. A write that is listed as stranded counts as not
// applied, and so a read that showed it while it stood is no witness; except where
// nothing may be shown that can still be lost.
func (j *judge) answers() Check {
	var wrong []string
	histories := j.histories(&wrong)
	reads, unjudged := 0, 0
	keys := make([][2]int64, 0, len(histories))
	for at := range histories {
		keys = append(keys, at)
	}
	slices.SortFunc(keys, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	for i, at := range keys {
		history := histories[at]
		if i >= judgeMax {
			unjudged++
			continue
		}
		for _, o := range history {
			if in, ok := o.Input.(access); ok && !in.write {
				reads++
			}
		}
		switch porcupine.CheckOperationsTimeout(register(), history, judgeOne) {
		case porcupine.Ok:
		case porcupine.Unknown:
			unjudged++
		case porcupine.Illegal:
			wrong = append(wrong, fmt.Sprintf("%s %s: no order of its writes explains what its consistent reads showed", j.Tables[at[0]].Name, keyOf(Put, at[1])))
		}
	}
	measured := fmt.Sprintf("%d wrong in %d histories with %d reads", len(wrong), len(histories), reads)
	if unjudged > 0 {
		measured += fmt.Sprintf(", %d too long to judge", unjudged)
	}
	c := verdict("answers", "as if there were one copy (linearizable)", measured, wrong)
	if reads == 0 && c.Result == Kept {
		c.Result = NotJudged
	}
	return c
}

// histories gathers what was done to each register, and what can't be right by itself.
func (j *judge) histories(wrong *[]string) map[[2]int64][]porcupine.Operation {
	seen := j.observed()
	out := map[[2]int64][]porcupine.Operation{}
	add := func(o *Op, in access, found int64, ret time.Duration) {
		at := [2]int64{int64(o.Table), o.Key}
		out[at] = append(out[at], porcupine.Operation{ClientId: o.Site, Input: in, Call: int64(o.Call), Output: found, Return: int64(ret)})
	}
	var end time.Duration
	for i := range j.Ops {
		o := &j.Ops[i]
		end = max(end, o.Return)
		if !j.Tables[o.Table].roles() {
			continue
		}
		read := o.Verb == Consult || o.Verb == Peek
		switch {
		case read && o.Outcome == Done && o.Value != 0 && j.wrote[o.Value] == nil:
			*wrong = append(*wrong, fmt.Sprintf("%s: it shows %d, which nobody wrote", j.tell(o), o.Value))
		case read && j.unprotected(o):
			*wrong = append(*wrong, fmt.Sprintf("%s: it shows a write that was stranded later, in a table with an RPO of 0", j.tell(o)))
		case o.Verb == Put && !j.Stranded[o.Value] && o.Outcome == Done:
			add(o, access{true, o.Value}, 0, o.Return)
		case o.Verb == Put && !j.Stranded[o.Value] && o.perhaps() && seen[o.Value]:
			// Nobody who did not see it can tell when, or whether, it happened.
			add(o, access{true, o.Value}, 0, math.MaxInt64)
		case o.Verb == Consult && o.Outcome == Done && !j.Stranded[o.Value]:
			add(o, access{value: o.Value}, o.Value, o.Return)
		}
	}
	j.addLast(out, end)
	return out
}

// unprotected reports whether a read showed what could still be lost, and was,
// in a table with an rpo of 0. A write that is listed as stranded may have come
// about all the same, when the region that had forwarded it asked the next holder:
// then it is no evidence. After the healing only what a client of the target wrote
// is, as nobody else could have repeated that.
func (j *judge) unprotected(o *Op) bool {
	w := j.wrote[o.Value]
	return o.Outcome == Done && j.Tables[o.Table].RPO == 0 && j.Stranded[o.Value] && !j.repeated[o.Value] &&
		w != nil && (o.Call < j.Healed || w.Site == j.Target)
}

// findRepeated notes which listed writes came about under another dot, as far as
// can be seen: they are there in the end, or another region showed them since.
func (j *judge) findRepeated() {
	j.repeated = map[int64]bool{}
	for i := range j.Ops {
		o := &j.Ops[i]
		read := o.Verb == Consult || o.Verb == Peek
		if j.Stranded[o.Value] && (read && o.Outcome == Done && o.Site != j.Target && o.Call > j.Fault || o.Verb.writes() && !j.gone(o)) {
			j.repeated[o.Value] = true
		}
	}
}

// addLast reads every register once more, where the regions agree on it.
func (j *judge) addLast(out map[[2]int64][]porcupine.Operation, end time.Duration) {
	for at := range out {
		key := keyOf(Put, at[1])
		last := j.Found[j.Data[0]][at[0]][key]
		if j.Stranded[last] {
			continue
		}
		agreed := !slices.ContainsFunc(j.Data, func(site int) bool { return j.Found[site][at[0]][key] != last })
		if agreed {
			out[at] = append(out[at], porcupine.Operation{Input: access{value: last}, Call: int64(end) + 1, Output: last, Return: int64(end) + 2})
		}
	}
}

// observed are the values that somebody read, or that are there in the end.
func (j *judge) observed() map[int64]bool {
	seen := map[int64]bool{}
	for i := range j.Ops {
		if o := &j.Ops[i]; o.Verb == Consult && o.Outcome == Done {
			seen[o.Value] = true
		}
	}
	for _, tables := range j.Found {
		for _, items := range tables {
			for _, v := range items {
				seen[v] = true
			}
		}
	}
	return seen
}
