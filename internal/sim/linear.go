package sim

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/antipode-io/antipode"
)

// statTimeouts counts histories that took too long to judge.
const statTimeouts = "histories not judged"

// asked and answered are an operation on one item for the linearizability checker.
type asked struct {
	verb  verb
	id    int
	value string // of verbRestore
}

type answered struct {
	out   outcome
	value string // what was there before a write, or what a read found
}

// register is an item that is read and written at one place.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return none },
		Step: func(state, input, output any) (bool, any) {
			was, ok1 := state.(string)
			in, ok2 := input.(asked)
			out, ok3 := output.(answered)
			if !ok1 || !ok2 || !ok3 {
				return false, state
			}
			return step(was, in, out)
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v -> %v", input, output) },
	}
}

func step(was string, in asked, out answered) (bool, any) {
	if out.out != unknown && out.value != was {
		return false, was
	}
	id := strconv.Itoa(in.id)
	switch in.verb {
	case verbPut:
		return true, id
	case verbAppend:
		if was == none {
			return true, id
		}
		return true, was + "," + id
	case verbDelete:
		return true, none
	case verbRestore:
		return true, in.value
	case verbCreate:
		if was == none {
			return out.out != refused, id
		}
		return out.out != done, was
	default:
		return true, was
	}
}

// checkHistory: each item of a table with one writer at a time behaves as if
// there were one copy of it.
func (s *simulation) checkHistory() {
	histories := map[cell][]porcupine.Operation{}
	add := func(o *operation, key string, ret int64, out answered) {
		at := cell{o.table.ID, key}
		histories[at] = append(histories[at], porcupine.Operation{
			ClientId: o.id, Input: asked{verb: o.verb, id: o.id}, Call: o.call, Output: out, Return: ret,
		})
	}
	for _, o := range s.ops {
		if n := s.counting(o); len(n) > 1 {
			s.failAfter("%v was written %d times: %v", o, len(n), n)
		}
		if o.table.Writes == antipode.WriteLocal {
			continue
		}
		switch {
		case s.isVoid(o):
			// It is listed as stranded, or tells of what is: checkAnswers looks at it.
		case s.cfg.Alone && len(o.wrote) == 0:
			// Until a region hears that it was forced out, it answers as if it had its roles.
		case o.verb.writes() && (o.out == done || o.out == refused):
			add(o, o.key, o.ret, answered{o.out, o.old})
		case o.verb.writes() && o.out == unknown && len(o.wrote) > 0:
			add(o, o.key, math.MaxInt64, answered{out: unknown})
		case (o.verb == verbRead || o.verb == verbScan) && o.out == done:
			for _, key := range sortedKeys(o.got) {
				if w := s.leansOn(o, key, o.got[key]); w != nil && !s.counts(w) || o.got[key] == none && s.nothing(o, key) != nil {
					continue
				}
				add(o, key, o.ret, answered{done, o.got[key]})
			}
		}
	}
	for _, r := range s.restores {
		key, _ := strings.CutSuffix(r.key, encodeKey(""))
		at := cell{r.table, key}
		histories[at] = append(histories[at], porcupine.Operation{
			Input: asked{verb: verbRestore, value: r.value}, Call: r.call, Output: answered{out: unknown}, Return: math.MaxInt64,
		})
	}
	for at, history := range histories {
		if s.spoilt[cell{at.table, encodeKey(at.key)}] {
			continue // what went with a disk is lost, as it is promised to be
		}
		switch porcupine.CheckOperationsTimeout(register(), history, 20*time.Second) {
		case porcupine.Ok:
		case porcupine.Unknown:
			s.count(statTimeouts)
		case porcupine.Illegal:
			s.failAfter("%s/%s is not linearizable:\n%s", s.tables[at.table].Name, at.key, describe(history))
		}
	}
}

// isVoid reports whether what an operation wrote, or was told of, does not count.
func (s *simulation) isVoid(o *operation) bool {
	if o.verb.writes() && len(o.wrote) > 0 {
		return len(s.counting(o)) == 0
	}
	w := s.toldOf(o)
	return o.verb.writes() && w != nil && !s.counts(w)
}

// failAfter is fail once the bubble is over.
func (s *simulation) failAfter(format string, args ...any) {
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

func describe(history []porcupine.Operation) (out string) {
	for _, o := range history {
		out += fmt.Sprintf("  %d..%d %v -> %v\n", o.Call, o.Return, o.Input, o.Output)
	}
	return out
}
