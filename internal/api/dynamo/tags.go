package dynamo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// tagPrefix starts the tags that say how a table is replicated.
const tagPrefix = "antipode:"

// Tags with a meaning.
const (
	tagWrites   = tagPrefix + "writes"   // global, partitioned or local
	tagWriter   = tagPrefix + "writer"   // global: the region that accepts writes
	tagRule     = tagPrefix + "rule"     // local: which of several versions is visible
	tagHome     = tagPrefix + "home"     // partitioned: where an item is born
	tagReplicas = tagPrefix + "replicas" // the regions that keep the table
	tagRPO      = tagPrefix + "rpo"      // a promised bound on lost writes

	tagCopies      = tagPrefix + "rpo-copies"  // rpo 0s: how many others have a write on disk before it is answered
	tagUnprotected = tagPrefix + "unprotected" // rpo 0s: what happens when too few are left for that
	tagFailover    = tagPrefix + "failover"    // how a lost region is replaced
	tagSuccessors  = tagPrefix + "successors"  // by whom
	tagReturn      = tagPrefix + "return"      // and how it gets its roles back
)

// How many tags a table can have, and the characters of their parts.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// applyTags makes of a table's tags what they say about its replication. The
// asked region is the writer of a table that says nothing.
func applyTags(t *control.Table, state *control.State, asked antipode.Region) error {
	if err := knownTags(t.Tags); err != nil {
		return err
	}
	var err error
	if t.Replicas, err = replicasOf(t.Tags, state); err != nil {
		return err
	}
	switch mode := antipode.WriteMode(t.Tags[tagWrites]); mode {
	case "", antipode.WriteGlobal:
		t.Writes = antipode.WriteGlobal
		if err := notWith(t.Tags, t.Writes, tagRule, tagHome); err != nil {
			return err
		}
		err = applyWriter(t, state, asked)
	case antipode.WritePartitioned:
		t.Writes = mode
		if err := notWith(t.Tags, mode, tagRule, tagWriter); err != nil {
			return err
		}
		err = applyHome(t)
	case antipode.WriteLocal:
		t.Writes = mode
		if err := notWith(t.Tags, mode, tagWriter, tagHome); err != nil {
			return err
		}
		err = applyRule(t, state)
	default:
		return errTag(tagWrites, string(mode), "one of "+list(antipode.WriteModes()))
	}
	if err != nil {
		return err
	}
	if err := applyRPO(t, state); err != nil {
		return err
	}
	return applyFailover(t, state)
}

func errTag(tag, value, want string) error {
	return errValidation("One or more parameter values were invalid: Tag %s is '%s'; it must be %s", tag, value, want)
}

// knownTags refuses a tag of ours that is none: a typing error in it would
// silently make a table of another kind.
func knownTags(tags map[string]string) error {
	known := []string{tagWrites, tagWriter, tagRule, tagHome, tagReplicas, tagRPO, tagCopies, tagUnprotected, tagFailover, tagSuccessors, tagReturn}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		if strings.HasPrefix(name, tagPrefix) && !slices.Contains(known, name) {
			return errValidation("One or more parameter values were invalid: Tag %s is not known; known are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// notWith refuses tags that mean nothing in this write mode.
func notWith(tags map[string]string, mode antipode.WriteMode, names ...string) error {
	for _, n := range names {
		if _, there := tags[n]; there {
			return errValidation("One or more parameter values were invalid: Tag %s has no meaning for a table written in %s mode; "+
				"remove it, or set %s", n, mode, tagWrites)
		}
	}
	return nil
}

func replicasOf(tags map[string]string, state *control.State) ([]antipode.Region, error) {
	text, there := tags[tagReplicas]
	if !there {
		return state.Members(), nil
	}
	out, err := regionsOf(tagReplicas, text, state)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errTag(tagReplicas, text, "a list of regions ("+list(state.Members())+")")
	}
	slices.Sort(out)
	return out, nil
}

// regionsOf reads a list of regions. AWS allows no comma in a tag, and its own
// tools split at it, hence the other separators.
func regionsOf(tag, text string, state *control.State) ([]antipode.Region, error) {
	var out []antipode.Region
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", +/", r) }) {
		r, err := regionOf(tag, word, state)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, r) {
			return nil, errTag(tag, text, "a list that names each region once")
		}
		out = append(out, r)
	}
	return out, nil
}

// regionOf finds a region that keeps data by its name, or by its location's code.
func regionOf(tag, word string, state *control.State) (antipode.Region, error) {
	if r, ok := state.Regions[antipode.Region(word)]; ok && !r.Witness {
		return r.Name, nil
	}
	var found []antipode.Region
	for _, name := range state.Members() {
		if state.Regions[name].Location == word && word != "" {
			found = append(found, name)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return "", errTag(tag, word, "a region that keeps data ("+list(state.Members())+")")
}

func applyWriter(t *control.Table, state *control.State, asked antipode.Region) error {
	t.Writer = asked
	if word, there := t.Tags[tagWriter]; there {
		var err error
		if t.Writer, err = regionOf(tagWriter, word, state); err != nil {
			return err
		}
	}
	if !t.HasReplica(t.Writer) {
		return errValidation("One or more parameter values were invalid: The table's writer would be %s, which keeps no replica of it; "+
			"set the tag %s to one of %s", t.Writer, tagWriter, list(t.Replicas))
	}
	return nil
}

func applyHome(t *control.Table) error {
	t.HomeBy = antipode.HomeCreator
	text, there := t.Tags[tagHome]
	if !there {
		return nil
	}
	how, attribute, has := strings.Cut(text, ":")
	switch by := antipode.HomeBy(how); {
	case (by == antipode.HomeCreator || by == antipode.HomePrefix) && !has:
		t.HomeBy = by
	case by == antipode.HomeAttribute && attribute != "":
		t.HomeBy, t.HomeAttr = by, attribute
	default:
		return errTag(tagHome, text, "creator, attribute:NAME or prefix")
	}
	if t.HomeBy == antipode.HomePrefix && t.Partition.Type != "S" {
		return errValidation("One or more parameter values were invalid: Tag %s is prefix, which needs a partition key of type S, not %s",
			tagHome, t.Partition.Type)
	}
	return nil
}

func applyRule(t *control.Table, state *control.State) error {
	text, there := t.Tags[tagRule]
	if !there {
		return errValidation("One or more parameter values were invalid: A table written in local mode accepts writes in every region at once, "+
			"so that two regions may write one item without knowing of each other. "+
			"Pick the rule that decides which version is visible then: set the tag %s to %s, or %s=REGION,REGION,...",
			tagRule, list(antipode.Rules()), antipode.RuleRegionPriority)
	}
	rule, order, has := strings.Cut(text, "=")
	if !has {
		rule, order, has = strings.Cut(text, ":")
	}
	t.Rule = antipode.Rule(rule)
	if !slices.Contains(antipode.Rules(), t.Rule) || has && t.Rule != antipode.RuleRegionPriority {
		return errTag(tagRule, text, fmt.Sprintf("one of %s, or %s=REGION,REGION,...", list(antipode.Rules()), antipode.RuleRegionPriority))
	}
	if t.Rule != antipode.RuleRegionPriority {
		return nil
	}
	if !has {
		t.Priority = slices.Clone(t.Replicas)
		return nil
	}
	var err error
	if t.Priority, err = regionsOf(tagRule, order, state); err != nil {
		return err
	}
	for _, r := range t.Priority {
		if !t.HasReplica(r) {
			return errTag(tagRule, text, "a list of regions that keep the table ("+list(t.Replicas)+")")
		}
	}
	if len(t.Priority) == 0 {
		return errTag(tagRule, text, fmt.Sprintf("%s=REGION,REGION,...", antipode.RuleRegionPriority))
	}
	return nil
}

func applyRPO(t *control.Table, state *control.State) error {
	text, there := t.Tags[tagRPO]
	if there {
		if d, err := time.ParseDuration(text); err != nil || d < 0 {
			return errTag(tagRPO, text, "a duration, such as 0s or 5s")
		}
		if state.OtherCopies(t) == 0 {
			return errValidation("One or more parameter values were invalid: Tag %s bounds what is lost with a region, but only %s keeps the table; add a replica, or remove it", tagRPO, list(t.Replicas))
		}
		t.RPO = text
	}
	if d, ok := t.Bound(); !ok || d != 0 {
		for _, n := range []string{tagCopies, tagUnprotected} {
			if _, there := t.Tags[n]; there {
				return errValidation("One or more parameter values were invalid: Tag %s has no meaning without the tag %s set to 0s; remove it, or set %s", n, tagRPO, tagRPO)
			}
		}
		return nil
	}
	t.Unprotected = control.UnprotectedDegrade
	if text, there := t.Tags[tagUnprotected]; there {
		if text != control.UnprotectedDegrade && text != control.UnprotectedBlock {
			return errTag(tagUnprotected, text, "degrade or block")
		}
		t.Unprotected = text
	}
	t.Copies = 1
	if text, there := t.Tags[tagCopies]; there {
		n, err := strconv.Atoi(text)
		if others := state.OtherCopies(t); err != nil || n < 1 || n > others {
			return errTag(tagCopies, text, fmt.Sprintf("a number from 1 to %d, which is how many other regions keep the table or its journal", others))
		}
		t.Copies = n
	}
	return nil
}

func applyFailover(t *control.Table, state *control.State) error {
	if t.Writes == antipode.WriteLocal {
		return notWith(t.Tags, t.Writes, tagFailover, tagSuccessors, tagReturn)
	}
	t.Failover = state.DefaultFailover(t)
	if text, there := t.Tags[tagFailover]; there {
		if text != control.FailoverLease && text != control.FailoverPinned {
			return errTag(tagFailover, text, "lease or pinned")
		}
		if text == control.FailoverLease && t.Failover != text {
			return errTag(tagFailover, text, "pinned here: a lost region can be replaced by itself only where three regions and witnesses vote and another region keeps the table")
		}
		t.Failover = text
	}
	t.Return = control.DefaultReturn(t.Writes)
	if text, there := t.Tags[tagReturn]; there {
		if text != control.ReturnAuto && text != control.ReturnManual {
			return errTag(tagReturn, text, "auto or manual")
		}
		t.Return = text
	}
	text, there := t.Tags[tagSuccessors]
	if !there {
		return nil
	}
	var err error
	if t.Successors, err = regionsOf(tagSuccessors, text, state); err != nil {
		return err
	}
	for _, r := range t.Successors {
		if !t.HasReplica(r) {
			return errTag(tagSuccessors, text, "a list of regions that keep the table ("+list(t.Replicas)+")")
		}
	}
	return nil
}

// checkTags refuses what DynamoDB refuses of tags.
func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return errValidation("Number of Tags exceed the current limit for the provided ResourceArn")
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		switch {
		case k == "" || utf8.RuneCountInString(k) > maxTagKey:
			return errValidation("The Tag Key provided is invalid, Key: %s", k)
		case strings.HasPrefix(k, "aws:"):
			return errValidation("Tag Key cannot be prefixed with aws:, Key: %s", k)
		case utf8.RuneCountInString(tags[k]) > maxTagValue:
			return errValidation("The Tag Value provided is invalid, Value: %s", tags[k])
		}
	}
	return nil
}

func list[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
