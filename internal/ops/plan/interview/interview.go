// Package interview asks in plain words what antipode plan has to know, and makes
// of the answers a spec with its needs. It knows the questions, their defaults and
// what an answer means; how they are put to a person is the caller's.
//
// It is pure. An Interview is used by one goroutine; nothing in it needs closing.
package interview

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// Kind says how a question is answered.
type Kind int

// The kinds of questions.
const (
	Text Kind = iota // a line of text; "-" for no answer
	One              // one of the options
	Some             // any number of the options, separated by commas; "-" for none
)

// Question is one thing to ask.
type Question struct {
	Field   string // of the answers, such as data.orders.rto
	Ask     string
	Help    string
	Kind    Kind
	Options []Option // of One and Some
	Default string   // as it would be typed
	// Set takes an answer. Its error says what to type instead, and then nothing
	// has changed. An empty answer is no answer.
	Set func(answer string) error
}

// Option is one of the answers to choose from.
type Option struct {
	Value string // what is typed, and kept
	Says  string
}

// Page is some questions that are asked together.
type Page struct {
	Title     string
	Questions []Question
}

// Interview is a conversation. Its pages depend on what was answered before.
type Interview struct {
	// Spec is what comes of it. Not to be used before the last page is answered.
	Spec *spec.Spec

	page int
	data []string // names of the data sets to ask about
}

// New starts a conversation about a spec, which is not changed, or about nothing
// yet when it is nil. What the spec says already is the default of each question.
func New(old *spec.Spec) *Interview {
	i := &Interview{Spec: &spec.Spec{}}
	if old != nil {
		*i.Spec = *old
		i.Spec.Regions = slices.Clone(old.Regions)
	}
	n := spec.Needs{}
	if i.Spec.Needs != nil {
		n = *i.Spec.Needs
		n.Users, n.Data = slices.Clone(n.Users), slices.Clone(n.Data)
	}
	i.Spec.Needs = &n
	return i
}

// Next gives the next page, once the one before is answered; false at the end.
func (i *Interview) Next() (Page, bool) {
	i.page++
	switch i.page {
	case 1:
		return Page{"Users", []Question{i.users()}}, true
	case 2:
		return Page{"The whole", append(i.regions(), i.onCall(), i.dataSets())}, true
	}
	const first, each = 3, 3
	n := (i.page - first) / each
	if n >= len(i.data) {
		return Page{}, false
	}
	name := i.data[n]
	d := i.find(name)
	title := func(about string) string { return fmt.Sprintf("%s (%d of %d): %s", name, n+1, len(i.data), about) }
	switch (i.page - first) % each {
	case 0:
		return Page{title("what it must survive"), i.recovery(d)}, true
	case 1:
		return Page{title("who writes it"), writers(d)}, true
	default:
		return Page{title("how fast, how much, and where"), i.traffic(d)}, true
	}
}

// find returns the entry of a data set, which it makes where there is none. All
// that are asked about are there before the first is, so that it does not move.
func (i *Interview) find(name string) *spec.Data {
	n := i.Spec.Needs
	k := slices.IndexFunc(n.Data, func(d spec.Data) bool { return d.Name == name })
	if k < 0 {
		n.Data = append(n.Data, spec.Data{Name: name})
		k = len(n.Data) - 1
	}
	return &n.Data[k]
}

func (i *Interview) users() Question {
	var said []string
	for _, u := range i.Spec.Needs.Users {
		text := u.Location.String()
		if u.Location.Code == "" {
			text = u.Name
		}
		if u.Share != nil {
			text += " " + number(*u.Share)
		}
		said = append(said, text)
	}
	return Question{
		Field: "users", Ask: "Where are the users?",
		Help:    "Cities or cloud regions nearby, the part of the traffic after each: frankfurt 70, us-east-1 30",
		Default: cmp.Or(strings.Join(said, ", "), "us-east-1"),
		Set: func(answer string) error {
			users, err := parseUsers(answer, i.Spec.Needs.Users)
			if err == nil {
				i.Spec.Needs.Users = users
			}
			return err
		},
	}
}

// parseUsers reads "frankfurt 70, us-east-1 30". Groups that are there already
// are known by their names.
func parseUsers(answer string, known []spec.Users) ([]spec.Users, error) {
	var out []spec.Users
	for _, part := range list(answer) {
		words := strings.Fields(strings.TrimSuffix(part, "%"))
		var share *float64
		if len(words) > 1 {
			if f, err := parseNumber(words[len(words)-1]); err == nil {
				share, words = f, words[:len(words)-1]
			}
		}
		name := strings.Join(words, " ")
		u := spec.Users{Name: strings.ToLower(name), Share: share}
		if k := slices.IndexFunc(known, func(g spec.Users) bool { return g.Name == name }); k >= 0 {
			u.Location = known[k].Location
		} else {
			p, err := place(name)
			if err != nil {
				return nil, err
			}
			u.Location = spec.Location{Code: p.Code, Latitude: p.Latitude, Longitude: p.Longitude}
			if k := slices.IndexFunc(known, func(g spec.Users) bool { return g.Location.Code == p.Code }); k >= 0 {
				u.Name = known[k].Name
			}
		}
		if slices.ContainsFunc(out, func(o spec.Users) bool { return o.Name == u.Name }) {
			return nil, fmt.Errorf("%s is there twice; name each place once", u.Name)
		}
		out = append(out, u)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("name at least one place, such as frankfurt or us-east-1")
	}
	return out, nil
}

// place finds a cloud region by its name, or the first one in a city.
func place(name string) (geo.Place, error) {
	if p, ok := geo.Lookup(strings.ToLower(name)); ok {
		return p, nil
	}
	names := geo.Codes()
	for _, code := range geo.Codes() {
		p, _ := geo.Lookup(code)
		if strings.EqualFold(p.City, name) {
			return p, nil
		}
		names = append(names, strings.ToLower(p.City))
	}
	fix := "type a city with a cloud region, or a cloud region's name: frankfurt, eu-central-1"
	if near := spec.Nearest(strings.ToLower(name), names); near != "" {
		fix = "did you mean " + near + "? Otherwise " + fix
	}
	return geo.Place{}, fmt.Errorf("%q is no place that is known here; %s", name, fix)
}

// SuggestRegions names regions for users who are nowhere served yet: the cloud
// region next to each of the two largest groups, or one next to the only one and
// the nearest that is far enough from it not to be lost with it.
func SuggestRegions(users []spec.Users) []spec.Region {
	const apart = 300 // km
	groups := slices.Clone(users)
	share := func(u spec.Users) float64 {
		if u.Share != nil {
			return *u.Share
		}
		return 1
	}
	slices.SortStableFunc(groups, func(a, b spec.Users) int { return cmp.Compare(share(b), share(a)) })
	if len(groups) == 0 {
		groups = []spec.Users{{Location: spec.Location{Code: "us-east-1"}}}
	}
	first := nextTo(groups[0].Location.Place())
	second := ""
	at, _ := geo.Lookup(first)
	for _, g := range groups[1:] {
		code := nextTo(g.Location.Place())
		if p, _ := geo.Lookup(code); geo.Distance(p, at) >= apart {
			second = code
			break
		}
	}
	if second == "" { // of the same cloud: their names are built differently
		second = nearestCode(at, func(p geo.Place) bool {
			return geo.Distance(p, at) >= apart && strings.Count(p.Code, "-") == strings.Count(first, "-")
		})
	}
	return []spec.Region{siteOf(first), siteOf(second)}
}

func siteOf(code string) spec.Region {
	p, _ := geo.Lookup(code)
	return spec.Region{Name: antipode.Region(code), Location: spec.Location{Code: code, Latitude: p.Latitude, Longitude: p.Longitude}}
}

// nextTo is the cloud region that a place is, or the nearest one of AWS.
func nextTo(at geo.Place) string {
	if at.Code != "" {
		return at.Code
	}
	return nearestCode(at, func(p geo.Place) bool { return strings.Count(p.Code, "-") == 2 })
}

// nearestCode finds the nearest of the cloud regions that are good. Of equals the
// first of the table is taken.
func nearestCode(at geo.Place, good func(geo.Place) bool) string {
	best, distance := "", 0.0
	for _, code := range geo.Codes() {
		p, _ := geo.Lookup(code)
		if d := geo.Distance(at, p); good(p) && (best == "" || d < distance) {
			best, distance = code, d
		}
	}
	return best
}

// regions asks where it can run, unless the spec says so already.
func (i *Interview) regions() []Question {
	if len(i.Spec.Regions) > 0 {
		return nil
	}
	var names []string
	for _, r := range SuggestRegions(i.Spec.Needs.Users) {
		names = append(names, string(r.Name))
	}
	return []Question{{
		Field: "regions", Ask: "In which regions can it run?",
		Help:    "The main one first. The plan says which of them are needed; one may be enough",
		Default: strings.Join(names, ", "),
		Set: func(answer string) error {
			var out []spec.Region
			for _, name := range list(answer) {
				p, err := place(name)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(out, func(r spec.Region) bool { return r.Location.Code == p.Code }) {
					return fmt.Errorf("%s is there twice; name each region once", p.Code)
				}
				out = append(out, siteOf(p.Code))
			}
			if len(out) == 0 {
				return fmt.Errorf("name at least one, such as us-east-1")
			}
			i.Spec.Regions = out
			return nil
		},
	}}
}

func (i *Interview) onCall() Question {
	return Question{
		Field: "company.on_call", Ask: "Who acts when something breaks?", Kind: One,
		Options: []Option{
			{"always", "somebody, at any hour"},
			{"office-hours", "somebody, during working hours"},
			{"none", "nobody is told"},
		},
		Default: cmp.Or(i.Spec.Needs.Company.OnCall, "office-hours"),
		Set:     word(&i.Spec.Needs.Company.OnCall, "always", "office-hours", "none"),
	}
}

func (i *Interview) dataSets() Question {
	var names []string
	for _, t := range i.Spec.Tables {
		names = append(names, t.Name)
	}
	for _, d := range i.Spec.Needs.Data {
		if !slices.Contains(names, d.Name) {
			names = append(names, d.Name)
		}
	}
	return Question{
		Field: "data", Ask: "Which data sets are there?",
		Help:    "One for each that is written or needed in another way: orders, profiles, logs",
		Default: cmp.Or(strings.Join(names, ", "), "orders"),
		Set: func(answer string) error {
			names := list(answer)
			if len(names) == 0 {
				return fmt.Errorf("name at least one, such as orders")
			}
			seen := map[string]bool{}
			for _, name := range names {
				if !isName(name) {
					return fmt.Errorf("%q can't be a name here; type 3 to 255 letters, digits, underscores, hyphens and dots", name)
				}
				if seen[name] {
					return fmt.Errorf("%s is there twice; name each once", name)
				}
				seen[name] = true
			}
			i.data = names
			for _, name := range names {
				i.find(name)
			}
			return nil
		},
	}
}

// isName reports whether a table can be called that, so that the plan can make one.
func isName(s string) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r)
	}
	return len(s) >= 3 && len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0
}
