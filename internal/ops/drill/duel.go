package drill

import (
	"fmt"
	"slices"
)

// duels groups the writes to keys that every region writes once.
func (j *judge) duels() map[[2]int64][]*Op {
	out := map[[2]int64][]*Op{}
	for i := range j.Ops {
		if o := &j.Ops[i]; o.Verb == Duel && o.Outcome != Never {
			at := [2]int64{int64(o.Table), o.Key}
			out[at] = append(out[at], o)
		}
	}
	return out
}

// concurrent reports whether two writes surely had not seen each other: each was
// answered before news of the other could have arrived.
func (j *judge) concurrent(a, b *Op) bool {
	return a.Site != b.Site && a.Outcome == Done && b.Outcome == Done &&
		a.Call+j.OneWay(a.Site, b.Site) > b.Return && b.Call+j.OneWay(b.Site, a.Site) > a.Return
}

// recorded reports whether a collision of a key names all these values.
func (j *judge) recorded(o *Op, values ...int64) bool {
	for _, versions := range j.Collisions[o.Table][keyOf(o.Verb, o.Key)] {
		all := true
		for _, v := range values {
			all = all && slices.Contains(versions, v)
		}
		if all {
			return true
		}
	}
	return false
}

// collisions: two writes of one item that had not seen each other are on record.
func (j *judge) collisions() Check {
	pairs := 0
	var missing []string
	for _, writes := range j.duels() {
		for i, a := range writes {
			for _, b := range writes[i+1:] {
				if !j.concurrent(a, b) {
					continue
				}
				pairs++
				if !j.recorded(a, a.Value, b.Value) {
					missing = append(missing, fmt.Sprintf("%s; and %s", j.tell(a), j.tell(b)))
				}
			}
		}
	}
	slices.Sort(missing)
	c := verdict("collisions", "every one on record", fmt.Sprintf("%d of %d not on record", len(missing), pairs), missing)
	if pairs == 0 {
		c.Measured, c.Result = "no two writes surely collided", NotJudged
	}
	return c
}

// duelLost reports whether a write of a duel is neither what is visible, nor on
// record as a version that lost, nor overwritten by one that may have seen it.
func (j *judge) duelLost(o *Op) bool {
	key := keyOf(o.Verb, o.Key)
	for _, tables := range j.Found {
		if tables[o.Table][key] == o.Value {
			return false
		}
	}
	if j.recorded(o, o.Value) {
		return false
	}
	if j.byDuel == nil {
		j.byDuel = j.duels()
	}
	for _, other := range j.byDuel[[2]int64{int64(o.Table), o.Key}] {
		if other != o && !j.concurrent(o, other) && (other.perhaps() || other.Return > o.Call) {
			return false
		}
	}
	return true
}
