package spec

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// modesHelp and rulesHelp say what can be chosen, for messages.
func modesHelp() string {
	return "global (one writer region, the others forward to it), partitioned (each item is written in its home region), " +
		"local (written in every region at local speed; a rule decides between concurrent writes)"
}

func rulesHelp() string {
	return "last-writer (the latest write is visible), first-writer (the earliest is), " +
		"region-priority (that of the region listed first under priority is); the versions that lose are kept on record in each case"
}

// check looks for what contradicts itself in a spec that is filled in. Fields
// that were filled in have no position, so messages fall back to what is around.
func (d *decoder) check(s *Spec) {
	d.checkTiming(s)
	d.checkRegions(s)
	if len(d.problems) > 0 {
		return // tables name regions; more messages would only be echoes
	}
	names := map[string]bool{}
	for i := range s.Tables {
		t := &s.Tables[i]
		if names[t.Name] {
			d.problem(d.where(&t.Name), "a table "+strconv.Quote(t.Name)+" is listed above already", "give one of them another name or remove it")
		}
		names[t.Name] = true
		d.checkTable(s, t)
	}
	if s.Needs != nil {
		d.checkNeeds(s, s.Needs)
	}
}

// where returns the position of the first of these that was in the file.
func (d *decoder) where(candidates ...any) pos {
	for _, c := range candidates {
		if p, ok := d.at[c]; ok {
			return p
		}
	}
	return pos{}
}

// The lease's bounds: below the shortest a renewal across an ocean that is lost
// once would end it; beyond the longest nobody would call it a failover.
const (
	minLease, maxLease             = Duration(time.Second), Duration(time.Minute)
	minReturnAfter, maxReturnAfter = Duration(time.Second), Duration(24 * time.Hour)
)

// checkTiming looks at the top-level durations.
func (d *decoder) checkTiming(s *Spec) {
	for _, f := range []struct {
		name      string
		is        *Duration
		from, to  Duration
		otherwise string
	}{
		{"lease", &s.Lease, minLease, maxLease, "a shorter one would end whenever a message between regions is late, a longer one would keep a lost region's tables closed as long"},
		{"return_after", &s.ReturnAfter, minReturnAfter, maxReturnAfter, "to let nothing go back by itself, write return: manual in the tables"},
	} {
		given := *f.is
		if p, ok := d.at[f.is]; ok && (given < f.from || given > f.to || d.zero[f.is]) {
			if d.zero[f.is] {
				given = 0
			}
			d.problem(p, fmt.Sprintf("%s is %v", f.name, given), fmt.Sprintf("choose one from %v to %v; %s", f.from, f.to, f.otherwise))
		}
	}
}

func (d *decoder) checkRegions(s *Spec) {
	if limit := maxBasePort(len(s.Regions)); s.BasePort < 1 || s.BasePort > limit {
		d.problem(d.where(&s.BasePort), fmt.Sprintf("base_port is %d: each region takes %d ports from it on, and ports end at 65535", s.BasePort, PortStride),
			fmt.Sprintf("choose one from 1 to %d", limit))
		return
	}
	seen := map[antipode.Region]bool{}
	for i := range s.Regions {
		r := &s.Regions[i]
		if seen[r.Name] {
			d.problem(d.where(&r.Name), "a region "+strconv.Quote(string(r.Name))+" is listed above already", "give one of them another name")
		}
		seen[r.Name] = true
		d.checkRegion(s, r)
	}
	if len(s.DataRegions()) == 0 {
		d.problem(d.where(&s.Regions, s), "no region keeps data: there is none that is no witness", "add a region without witness: true")
	}
	if a, b, ok := s.sharedAddress(); ok {
		d.problem(d.where(a.field, a.region), fmt.Sprintf("%s and %s are both at %s", a.what, b.what, a.addr), "give each its own port")
	}
}

func (d *decoder) checkRegion(s *Spec, r *Region) {
	if !isLabel(string(r.Name)) {
		d.problem(d.where(&r.Name, r), fmt.Sprintf("%q can't be a region's name: it stands in host names and ARNs", r.Name),
			"use 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end")
	}
	for i := range s.Regions {
		if o := &s.Regions[i]; o != r && o.Location.Code == string(r.Name) && r.Location.Code != o.Location.Code {
			d.problem(d.where(&r.Name), fmt.Sprintf("region %s has the name of the cloud region that %s is in: a client that asks for it could mean either", r.Name, o.Name),
				"give the region another name")
		}
	}
	d.checkLocation(r)
	def := defaultAddresses(s.BasePort, 0)
	for _, f := range []struct {
		what  string
		addr  *string
		def   string
		files bool
	}{{"api", &r.Addresses.API, def.API, true}, {"operator", &r.Addresses.Operator, def.Operator, true}, {"link", &r.Addresses.Link, def.Link, false}} {
		host, port, err := net.SplitHostPort(*f.addr)
		n, errPort := strconv.Atoi(port)
		p := d.where(f.addr, r)
		switch {
		case err != nil || errPort != nil || n < 1 || n > 65535:
			d.problem(p, fmt.Sprintf("%s is %q, which is no address", f.what, *f.addr), "write HOST:PORT with a port from 1 to 65535, such as "+f.def)
		case f.files && !isLoopback(host) && r.TLS == nil:
			d.problem(p, fmt.Sprintf("the %s port of %s can be reached from other machines at %s, but has no certificate: credentials would cross the network in the clear", f.what, r.Name, *f.addr),
				"add tls: {cert: FILE, key: FILE} to the region, or listen on 127.0.0.1")
		case !f.files && len(s.Regions) > 1 && isWildcard(host):
			d.problem(p, fmt.Sprintf("the link of %s is at %s, which tells the other regions no host to connect to", r.Name, *f.addr), "write the host name or address that they reach it by")
		}
	}
	if r.Journal && !r.Witness {
		d.problem(d.where(&r.Journal, r), fmt.Sprintf("region %s has journal: true, which only a witness can have: a region that stores tables keeps their journals anyway", r.Name),
			"remove journal, or add witness: true")
	}
	if t := r.TLS; t != nil && (t.Cert == "" || t.Key == "") {
		d.problem(d.where(t), "tls names no file", "write tls: {cert: FILE, key: FILE}")
	}
}

func (d *decoder) checkLocation(r *Region) {
	if _, given := d.at[&r.Location]; !given && r.Location.Code == "" {
		d.problem(d.where(r), fmt.Sprintf("region %s has no location", r.Name),
			"add location: us-west-2 (a cloud region nearby), or location: {latitude: 45.8, longitude: -119.7}")
		return
	}
	d.checkPoint(&r.Location)
}

// checkPoint checks that a location that is no cloud region is on the globe.
func (d *decoder) checkPoint(l *Location) {
	switch {
	case l.Code == "" && math.Abs(l.Latitude) > 90:
		d.problem(d.where(&l.Latitude, l), fmt.Sprintf("latitude is %v degrees", l.Latitude), "it goes from -90 (south) to 90 (north); are the two swapped?")
	case l.Code == "" && math.Abs(l.Longitude) > 180:
		d.problem(d.where(&l.Longitude, l), fmt.Sprintf("longitude is %v degrees", l.Longitude), "it goes from -180 (west) to 180 (east)")
	}
}

// listener is one port of one region.
type listener struct {
	what, addr    string
	field, region any // their addresses in the Spec
}

// sharedAddress finds two ports at the same address.
func (s *Spec) sharedAddress() (later, earlier listener, found bool) {
	seen := map[string]listener{}
	for i := range s.Regions {
		r := &s.Regions[i]
		for _, l := range []listener{
			{"the api of " + string(r.Name), r.Addresses.API, &r.Addresses.API, r},
			{"the operator port of " + string(r.Name), r.Addresses.Operator, &r.Addresses.Operator, r},
			{"the link of " + string(r.Name), r.Addresses.Link, &r.Addresses.Link, r},
		} {
			key := strings.Replace(strings.ToLower(l.addr), "localhost:", "127.0.0.1:", 1)
			if before, ok := seen[key]; ok {
				return l, before, true
			}
			seen[key] = l
		}
	}
	return listener{}, listener{}, false
}

func (d *decoder) checkTable(s *Spec, t *Table) {
	if !IsTableName(t.Name) {
		d.problem(d.where(&t.Name, t), fmt.Sprintf("%q can't be a table's name", t.Name), "DynamoDB's rule: 3 to 255 letters, digits, underscores, hyphens and dots")
	}
	d.checkKey(t)
	d.checkRPO(s, t)
	if !d.regions(s, t, "replicas", &t.Replicas) {
		return
	}
	switch t.Writes {
	case antipode.WriteGlobal:
		d.checkWriter(s, t)
	case antipode.WritePartitioned:
		d.checkHome(t)
	case antipode.WriteLocal:
		d.checkRule(s, t)
	default:
		d.problem(d.where(&t.Writes, t), fmt.Sprintf("writes is %q", t.Writes), choose(string(t.Writes), texts(antipode.WriteModes()), modesHelp()))
		return
	}
	for _, f := range []struct {
		name  string
		set   bool
		field any
		mode  antipode.WriteMode
	}{
		{"writer", t.Writer != "", &t.Writer, antipode.WriteGlobal},
		{"home", t.Home != "", &t.Home, antipode.WritePartitioned},
		{"rule", t.Rule != "", &t.Rule, antipode.WriteLocal},
		{"priority", len(t.Priority) > 0, &t.Priority, antipode.WriteLocal},
	} {
		if f.set && f.mode != t.Writes {
			d.problem(d.where(f.field, t), fmt.Sprintf("table %s has a %s, which only a table written in %s mode has; this one is %s", t.Name, f.name, f.mode, t.Writes),
				fmt.Sprintf("remove %s, or change writes to %s", f.name, f.mode))
		}
	}
	d.checkFailover(s, t)
}

// checkRPO checks what a table says about how much may be lost.
func (d *decoder) checkRPO(s *Spec, t *Table) {
	others := len(t.Replicas) - 1 + s.journalKeepers()
	switch {
	case t.RPO != nil && others == 0:
		d.problem(d.where(t.RPO, t), fmt.Sprintf("table %s promises an rpo of %v, but only %s keeps it: there is no other copy", t.Name, t.RPO, t.Replicas[0]),
			"add a replica or remove rpo")
		return
	case t.zeroRPO() && (t.RPOCopies < 1 || t.RPOCopies > others):
		d.problem(d.where(&t.RPOCopies, t), fmt.Sprintf("table %s wants each write on disk in %d other regions (rpo_copies), and %d others keep it", t.Name, t.RPOCopies, others),
			fmt.Sprintf("choose rpo_copies from 1 to %d, add replicas, or let a witness count with journal: true", others))
	}
	for _, f := range []struct {
		name  string
		set   bool
		field any
	}{{"rpo_copies", t.RPOCopies != 0, &t.RPOCopies}, {"unprotected", t.Unprotected != "", &t.Unprotected}} {
		if f.set && !t.zeroRPO() {
			d.problem(d.where(f.field, t), fmt.Sprintf("table %s has %s, which only rpo: 0s looks at", t.Name, f.name), fmt.Sprintf("remove %s, or add rpo: 0s", f.name))
		}
	}
	if modes := []string{control.UnprotectedDegrade, control.UnprotectedBlock}; t.zeroRPO() && !slices.Contains(modes, t.Unprotected) {
		d.problem(d.where(&t.Unprotected, t), fmt.Sprintf("unprotected is %q", t.Unprotected),
			choose(t.Unprotected, modes, "degrade (writes go on while too few regions are left to copy to, on record), block (they wait, then fail)"))
	}
}

// journalKeepers counts the witnesses that keep journals.
func (s *Spec) journalKeepers() (n int) {
	for _, r := range s.Regions {
		if r.Witness && r.Journal {
			n++
		}
	}
	return n
}

// checkFailover checks what a table says about the loss of a region.
func (d *decoder) checkFailover(s *Spec, t *Table) {
	if t.Writes == antipode.WriteLocal {
		for _, f := range []struct {
			name  string
			set   bool
			field any
		}{{"failover", t.Failover != "", &t.Failover}, {"successors", len(t.Successors) > 0, &t.Successors}, {"return", t.Return != "", &t.Return}} {
			if f.set {
				d.problem(d.where(f.field, t), fmt.Sprintf("table %s has %s, which a table written in local mode has no use for: every region accepts its writes, so nobody has to take over", t.Name, f.name),
					"remove "+f.name)
			}
		}
		return
	}
	p := d.where(&t.Failover, t)
	modes := []string{control.FailoverLease, control.FailoverPinned}
	switch {
	case !slices.Contains(modes, t.Failover):
		d.problem(p, fmt.Sprintf("failover is %q", t.Failover),
			choose(t.Failover, modes, "lease (another region takes a lost one's place by itself), pinned (only when a person says so)"))
	case t.Failover == control.FailoverLease && !s.HasSpareMajority():
		d.problem(p, fmt.Sprintf("table %s is to fail over by lease, but %d voters have no majority when one of them is lost: those that are left can't tell its death from a cut, so none of them may take its place by itself",
			t.Name, len(s.Regions)), "add a region, or a witness (witness: true), or write failover: pinned")
	case t.Failover == control.FailoverLease && len(t.Replicas) == 1:
		d.problem(p, fmt.Sprintf("table %s is to fail over by lease, but only %s keeps it: nobody could take over", t.Name, t.Replicas[0]), "add a replica, or write failover: pinned")
	}
	if modes := []string{control.ReturnAuto, control.ReturnManual}; !slices.Contains(modes, t.Return) {
		d.problem(d.where(&t.Return, t), fmt.Sprintf("return is %q", t.Return),
			choose(t.Return, modes, "auto (what a lost region had goes back there once it is healthy), manual (when a person says so)"))
	}
	if !d.regions(s, t, "successors", &t.Successors) {
		return
	}
	for i := range t.Successors {
		if r := &t.Successors[i]; !slices.Contains(t.Replicas, *r) {
			d.problem(d.where(r), fmt.Sprintf("successors names %s, which keeps no copy of %s", *r, t.Name), "remove it, or add it to replicas")
		}
	}
}

func (d *decoder) checkKey(t *Table) {
	attrs := []*KeyAttribute{&t.Key.Partition}
	if t.Key.Sort != nil {
		attrs = append(attrs, t.Key.Sort)
	}
	for _, k := range attrs {
		p := d.where(&k.Type, k, &t.Key, t)
		if !slices.Contains([]string{"S", "N", "B"}, k.Type) {
			d.problem(p, fmt.Sprintf("key attribute %s has the type %q", k.Name, k.Type),
				"a key's type is S (string), N (number) or B (bytes), as in ts:N; if the colon belongs to the name, write {name: \""+k.Name+":"+k.Type+"\", type: S}")
		}
		if len(k.Name) < 1 || len(k.Name) > 255 {
			d.problem(p, fmt.Sprintf("a key attribute's name is %d bytes long", len(k.Name)), "DynamoDB's rule: 1 to 255 bytes")
		}
	}
	if len(attrs) == 2 && attrs[0].Name == attrs[1].Name {
		d.problem(d.where(t.Key.Sort, &t.Key), fmt.Sprintf("partition and sort key are the same attribute %q", attrs[0].Name), "name two attributes, or drop the sort key")
	}
}

func (d *decoder) checkWriter(s *Spec, t *Table) {
	p := d.where(&t.Writer, t)
	if !d.region(s, p, "writer", t.Writer) {
		return
	}
	if !slices.Contains(t.Replicas, t.Writer) {
		d.problem(p, fmt.Sprintf("the writer of %s is %s, which keeps no copy of it (replicas: %s)", t.Name, t.Writer, quoted(t.Replicas)),
			fmt.Sprintf("add %s to replicas, or choose a writer among them", t.Writer))
	}
}

func (d *decoder) checkHome(t *Table) {
	by, attr := t.Home.Split()
	p := d.where(&t.Home, t)
	switch {
	case by == antipode.HomeAttribute && attr != "", by == antipode.HomeCreator && attr == "":
	case by == antipode.HomePrefix && attr == "":
		if t.Key.Partition.Type != "S" {
			d.problem(p, fmt.Sprintf("home is prefix, but the partition key %s is of type %s: only a string can start with a region's name", t.Key.Partition.Name, t.Key.Partition.Type),
				"make the key a string, or choose creator or attribute:NAME")
		}
	case by == antipode.HomeAttribute:
		d.problem(p, fmt.Sprintf("home is %q without an attribute", t.Home), "name the attribute that holds the region: attribute:region")
	default:
		d.problem(p, fmt.Sprintf("home is %q", t.Home), choose(string(by), []string{"creator", "attribute", "prefix"},
			"creator (where the item is created), attribute:NAME (in the region that this attribute names), prefix (in the region that the partition key starts with)"))
	}
}

func (d *decoder) checkRule(s *Spec, t *Table) {
	p := d.where(&t.Rule, &t.Writes, t)
	switch {
	case t.Rule == "":
		d.problem(p, fmt.Sprintf("table %s is written in local mode and has no rule: two regions can change the same item at the same time, and then a rule has to say which version readers see", t.Name),
			"add rule: with one of "+rulesHelp())
	case !slices.Contains(antipode.Rules(), t.Rule):
		d.problem(p, fmt.Sprintf("rule is %q", t.Rule), choose(string(t.Rule), texts(antipode.Rules()), rulesHelp()))
	case t.Rule == antipode.RuleRegionPriority && len(t.Priority) == 0:
		d.problem(p, fmt.Sprintf("table %s goes by region priority and lists none", t.Name), fmt.Sprintf("add priority: [%s], the one that wins first", quoted(t.Replicas)))
	case t.Rule != antipode.RuleRegionPriority && len(t.Priority) > 0:
		d.problem(d.where(&t.Priority, t), fmt.Sprintf("table %s lists priority, which only the rule region-priority looks at; its rule is %s", t.Name, t.Rule),
			"remove priority, or change rule to region-priority")
	case d.regions(s, t, "priority", &t.Priority):
		for i := range t.Priority {
			if r := &t.Priority[i]; !slices.Contains(t.Replicas, *r) {
				d.problem(d.where(r), fmt.Sprintf("priority names %s, which keeps no copy of %s", *r, t.Name), "remove it, or add it to replicas")
			}
		}
	}
}

// regions checks a list of regions that keep data.
func (d *decoder) regions(s *Spec, t *Table, what string, list *[]antipode.Region) bool {
	good := true
	seen := map[antipode.Region]bool{}
	for i := range *list {
		r := &(*list)[i]
		p := d.where(r, list, t)
		if seen[*r] {
			d.problem(p, fmt.Sprintf("%s names %s twice", what, *r), "remove one of them")
			good = false
		}
		seen[*r] = true
		good = d.region(s, p, what, *r) && good
	}
	return good
}

// region checks that a name is that of a region that keeps data.
func (d *decoder) region(s *Spec, p pos, what string, name antipode.Region) bool {
	r, ok := s.Region(name)
	if ok && !r.Witness {
		return true
	}
	if ok {
		d.problem(p, fmt.Sprintf("%s names %s, which is a witness: it votes and keeps no tables", what, name),
			"name a region that keeps data ("+quoted(s.DataRegions())+"), or remove witness: true from "+string(name))
		return false
	}
	fix := "the regions that keep data are " + quoted(s.DataRegions())
	near := nearest(string(name), texts(s.DataRegions()))
	if in := s.dataRegionsIn(string(name)); len(in) > 0 {
		near = string(in[0])
	}
	if near != "" {
		fix = "did you mean " + near + "? (" + fix + ")"
	}
	d.problem(p, fmt.Sprintf("%s names %q, which is no region of this spec", what, name), fix)
	return false
}

func choose(got string, all []string, help string) string {
	fix := "it is one of " + help
	if near := nearest(got, all); near != "" {
		fix = "did you mean " + near + "? It is one of " + help
	}
	return fix
}

// Split returns the way and, for HomeAttribute, the attribute.
func (h Home) Split() (antipode.HomeBy, string) {
	by, attr, _ := strings.Cut(string(h), ":")
	return antipode.HomeBy(by), attr
}

// Warnings lists what is allowed but may surprise: what it is, what it means and
// what would change it.
func (s *Spec) Warnings() []string {
	var out []string
	data := s.DataRegions()
	switch {
	case len(data) == 1:
		out = append(out, fmt.Sprintf("only %s keeps data: nothing is replicated, and what is lost with it is lost; add a region", data[0]))
	case len(s.Regions) == 2:
		out = append(out, fmt.Sprintf("%s and %s are two regions without a witness: when one does not hear the other it can't tell a cut from a death, and neither has a majority; "+
			"reads and writes that stay within a region go on, but tables can't be made, and a lost writer is replaced by a person, not by itself; "+
			"add a third region, or one with witness: true", data[0], data[1]))
	case len(s.Regions)%2 == 0:
		out = append(out, fmt.Sprintf("%d regions vote, which survives the loss of %d, no more than %d would; one more, if only a witness, survives %d",
			len(s.Regions), len(s.Regions)/2-1, len(s.Regions)-1, len(s.Regions)/2))
	}
	byCode := map[string][]string{}
	for _, r := range s.Regions {
		if c := r.Location.Code; c != "" {
			byCode[c] = append(byCode[c], string(r.Name))
		}
	}
	for _, c := range geo.Codes() {
		if names := byCode[c]; len(names) > 1 {
			w := fmt.Sprintf("%s are all in %s: what befalls that place takes them together", strings.Join(names, " and "), c)
			if len(s.dataRegionsIn(c)) > 1 && !slices.Contains(names, c) {
				w += ", and a client that asks for " + c + " is refused, since it could mean either"
			}
			out = append(out, w)
		}
	}
	return out
}

func isLabel(s string) bool {
	for i, r := range []byte(s) {
		alnum := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !alnum && (r != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

// IsTableName reports whether DynamoDB allows a name for a table.
func IsTableName(s string) bool {
	for _, r := range []byte(s) {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.' {
			return false
		}
	}
	return len(s) >= 3 && len(s) <= 255
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
