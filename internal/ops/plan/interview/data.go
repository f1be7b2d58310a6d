package interview

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// recovery asks what a data set must survive.
func (i *Interview) recovery(d *spec.Data) []Question {
	field := func(name string) string { return "data." + d.Name + "." + name }
	currency := cmp.Or(i.Spec.Needs.Currency, "USD")
	return []Question{
		{
			Field: field("why"), Ask: "Why may one region not be enough?", Kind: Some,
			Help: "- when it is enough",
			Options: []Option{
				{"continuity", "it must go on when a whole region is lost"},
				{"latency", "some users are too far away"},
				{"law", "the law says where it is kept"},
			},
			Default: cmp.Or(said(d.Why), "continuity"), Set: words(&d.Why, "continuity", "latency", "law"),
		},
		{
			Field: field("rto"), Ask: "How long may it be down when it fails?",
			Help:    "From the fault on, with the time until somebody notices and decides: 4h, 30m, 10s",
			Default: duration(d.RTO, "4h"), Set: setDuration(&d.RTO),
		},
		{
			Field: field("rpo"), Ask: "How much of what was written last may be lost then?",
			Help:    "As a time: 1h is all of the last hour; 0 is nothing that was acknowledged, which costs each write a round trip",
			Default: duration(d.RPO, "1h"), Set: setDuration(&d.RPO),
		},
		{
			Field: field("availability"), Ask: "How much of the time must it work, in per cent?",
			Help:    "99.9 is 9 hours a year of not working, 99.99 is 53 minutes. - where nobody has promised anything",
			Default: optional(d.Availability), Set: setNumber(&d.Availability, 100),
		},
		{
			Field: field("outage_hour"), Ask: fmt.Sprintf("What does an hour of outage cost, in %s?", currency),
			Help:    "Sales that are lost, contracts, people who wait. A guess is better than - (not known)",
			Default: optional(d.OutageHour), Set: setNumber(&d.OutageHour, 0),
		},
		{
			Field: field("done"), Ask: "What has been done already?", Kind: Some,
			Help: "What often makes another region unnecessary",
			Options: []Option{
				{"zones", "it runs in several zones of its region"},
				{"caching", "answers are cached"},
				{"cdn", "a content delivery network stands before it"},
				{"faster-restore", "restoring a backup is fast, and practised"},
			},
			Default: said(d.Done), Set: words(&d.Done, "zones", "caching", "cdn", "faster-restore"),
		},
	}
}

// writers asks who writes a data set, which decides how it can be kept in two places.
func writers(d *spec.Data) []Question {
	field := func(name string) string { return "data." + d.Name + "." + name }
	return []Question{
		{
			Field: field("written_by"), Ask: "Who writes one record?", Kind: One,
			Options: []Option{
				{"owner", "its owner: one user, one site, one device"},
				{"anybody", "users anywhere, at the same time too"},
				{"one-place", "one service in one place writes all records"},
			},
			Default: cmp.Or(d.WrittenBy, "owner"), Set: word(&d.WrittenBy, "owner", "anybody", "one-place"),
		},
		{
			Field: field("commute"), Ask: "Do two writes to one record give the same in either order?", Kind: One,
			Options: []Option{
				{"no", "the later one replaces the earlier one"},
				{"yes", "as when entries are only added, never changed"},
			},
			Default: yesNo(d.Commute), Set: setYesNo(&d.Commute),
		},
		{
			Field: field("invariants"), Ask: "What must hold across records at any moment?", Kind: Some,
			Options: []Option{
				{"unique-names", "no two records with the same name"},
				{"balances", "sums and limits: accounts, stock, seats"},
				{"other", "something else that two places could break together"},
			},
			Default: said(slices.DeleteFunc(slices.Clone(d.Invariants), func(w string) bool { return w == nothing })),
			Set: func(answer string) error {
				err := words(&d.Invariants, "unique-names", "balances", "other")(strings.TrimSuffix(answer, nothing))
				if err == nil && len(d.Invariants) == 0 {
					d.Invariants = []string{nothing}
				}
				return err
			},
		},
		{
			Field: field("offline"), Ask: "Must a region that is cut off from all others accept writes?", Kind: One,
			Options: []Option{
				{"no", "it may answer that it can't for a while"},
				{"yes", "always, and what collides is settled afterwards"},
			},
			Default: yesNo(d.Offline), Set: setYesNo(&d.Offline),
		},
	}
}

// nothing says that there are no invariants, which is not the same as to say nothing.
const nothing = "none"

// traffic asks how a data set is used, how large it is and where it must stay.
func (i *Interview) traffic(d *spec.Data) []Question {
	field := func(name string) string { return "data." + d.Name + "." + name }
	if d.Backup == nil {
		d.Backup = &spec.Backup{}
	}
	return []Question{
		{Field: field("reads.per_second"), Ask: "How many reads a second?", Help: "On average, of all users", Default: cmp.Or(optional(d.Reads.PerSecond), "100"), Set: setNumber(&d.Reads.PerSecond, 0)},
		{
			Field: field("reads.p99"), Ask: "Within what time must 99 of 100 reads be answered?",
			Help: "Seen from the user: 300ms. - where nobody has asked for it", Default: duration(d.Reads.P99, ""), Set: setBudget(&d.Reads.P99),
		},
		{
			Field: field("staleness"), Ask: "How old may a read be?",
			Help: "5s: it may miss the writes of the last five seconds; 0: it sees all", Default: duration(d.Staleness, "5s"), Set: setDuration(&d.Staleness),
		},
		{Field: field("writes.per_second"), Ask: "How many writes a second?", Default: cmp.Or(optional(d.Writes.PerSecond), "10"), Set: setNumber(&d.Writes.PerSecond, 0)},
		{
			Field: field("writes.p99"), Ask: "Within what time must 99 of 100 writes be answered?",
			Help: "Seen from the user: 500ms. - where nobody has asked for it", Default: duration(d.Writes.P99, ""), Set: setBudget(&d.Writes.P99),
		},
		{Field: field("item_bytes"), Ask: "How large is one write, in bytes?", Default: cmp.Or(optional(d.ItemBytes), "1000"), Set: setNumber(&d.ItemBytes, 0)},
		{Field: field("volume_gb"), Ask: "How much of it is there, in gigabytes?", Default: cmp.Or(optional(d.VolumeGB), "10"), Set: setNumber(&d.VolumeGB, 0)},
		{
			Field: field("stay"), Ask: "Where must it stay?",
			Help: "Countries (DE, IN), EU, or regions: replicas, backups and logs count. - for anywhere", Default: strings.Join(d.Stay, ", "), Set: i.setStay(&d.Stay),
		},
		{
			Field: field("backup.every"), Ask: "How often is a backup made?",
			Help: "Replicas copy mistakes, too: 24h. - for never", Default: duration(d.Backup.Every, "24h"), Set: setBudget(&d.Backup.Every),
		},
	}
}

// Tidy removes what nobody has answered. It is called when the last page is.
func (i *Interview) Tidy() {
	for k := range i.Spec.Needs.Data {
		d := &i.Spec.Needs.Data[k]
		if b := d.Backup; b != nil && b.Every == nil && b.Keep == nil && len(b.In) == 0 {
			d.Backup = nil
		}
	}
}

// list splits an answer at its commas.
func list(answer string) []string {
	var out []string
	for part := range strings.SplitSeq(answer, ",") {
		if part = strings.TrimSpace(part); part != "" && part != "-" {
			out = append(out, part)
		}
	}
	return out
}

func said(words []string) string { return strings.Join(words, ", ") }

func word(to *string, all ...string) func(string) error {
	return func(answer string) error {
		answer = strings.ToLower(strings.TrimSpace(answer))
		if !slices.Contains(all, answer) {
			return unknownWord(answer, all)
		}
		*to = answer
		return nil
	}
}

func words(to *[]string, all ...string) func(string) error {
	return func(answer string) error {
		out := list(strings.ToLower(answer))
		for k, w := range out {
			if !slices.Contains(all, w) {
				return unknownWord(w, all)
			}
			if slices.Contains(out[:k], w) {
				return fmt.Errorf("%s is there twice; type it once", w)
			}
		}
		*to = out
		return nil
	}
}

func unknownWord(answer string, all []string) error {
	fix := "type " + strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
	if near := spec.Nearest(answer, all); near != "" {
		fix = "did you mean " + near + "? Otherwise " + fix
	}
	return fmt.Errorf("%q is none of the answers; %s", answer, fix)
}

func yesNo(is *bool) string {
	if is != nil && *is {
		return "yes"
	}
	return "no"
}

func setYesNo(to **bool) func(string) error {
	return func(answer string) error {
		var w string
		if err := word(&w, "no", "yes")(answer); err != nil {
			return err
		}
		yes := w == "yes"
		*to = &yes
		return nil
	}
}

func none(answer string) bool { return answer == "" || answer == "-" }

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func optional(f *float64) string {
	if f == nil {
		return ""
	}
	return number(*f)
}

// parseNumber reads 1000, 1_000, 1k and 2.5M.
func parseNumber(answer string) (*float64, error) {
	text, factor := strings.ReplaceAll(answer, "_", ""), 1.0
	for _, unit := range []struct {
		suffix string
		factor float64
	}{{"k", 1e3}, {"M", 1e6}} {
		if rest, ok := strings.CutSuffix(text, unit.suffix); ok {
			text, factor = rest, unit.factor
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1e15 || f != f {
		return nil, fmt.Errorf("%q is no number from 0 on; type 250, 1.5 or 20k", answer)
	}
	f *= factor
	return &f, nil
}

// setNumber takes a number; above most, unless that is 0, it is refused.
func setNumber(to **float64, most float64) func(string) error {
	return func(answer string) error {
		answer = strings.TrimSuffix(strings.TrimSpace(answer), "%")
		if none(answer) {
			*to = nil
			return nil
		}
		f, err := parseNumber(answer)
		if err == nil && most > 0 && (*f == 0 || *f > most) {
			err = fmt.Errorf("%s is not above 0 and up to %s; type 99.95, say", answer, number(most))
		}
		if err == nil {
			*to = f
		}
		return err
	}
}

func duration(d *spec.Duration, otherwise string) string {
	if d == nil {
		return otherwise
	}
	return Spell(time.Duration(*d))
}

// Spell writes a duration without the zeros that Go puts behind it: 4h, 1h30m, 2d.
func Spell(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseDuration reads 30s, 1h30m, 2d, "15 min" and 0.
func parseDuration(answer string) (spec.Duration, error) {
	text := strings.ToLower(strings.ReplaceAll(answer, " ", ""))
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return spec.Duration(d), nil
	}
	digits := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	units := []struct {
		is    time.Duration
		names []string
	}{
		{24 * time.Hour, []string{"d", "day", "days"}},
		{7 * 24 * time.Hour, []string{"w", "week", "weeks"}},
		{time.Hour, []string{"hour", "hours"}},
		{time.Minute, []string{"min", "mins", "minute", "minutes"}},
		{time.Second, []string{"sec", "secs", "second", "seconds"}},
	}
	if digits > 0 {
		n, err := strconv.ParseFloat(text[:digits], 64)
		for _, u := range units {
			if err == nil && n <= 10_000 && slices.Contains(u.names, text[digits:]) {
				return spec.Duration(n * float64(u.is)), nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no time; type a number with its unit: 30s, 15m, 4h, 2d, or 0", answer)
}

func setDuration(to **spec.Duration) func(string) error {
	return func(answer string) error {
		answer = strings.TrimSpace(answer)
		if none(answer) {
			*to = nil
			return nil
		}
		d, err := parseDuration(answer)
		if err == nil {
			*to = &d
		}
		return err
	}
}

// setBudget takes a duration that can't be 0.
func setBudget(to **spec.Duration) func(string) error {
	return func(answer string) error {
		var d *spec.Duration
		if err := setDuration(&d)(answer); err != nil {
			return err
		}
		if d != nil && *d == 0 {
			return fmt.Errorf("0 can't be kept; type a time such as 500ms or 24h, or - for no answer")
		}
		*to = d
		return nil
	}
}

// setStay takes countries, EU and regions.
func (i *Interview) setStay(to *[]string) func(string) error {
	return func(answer string) error {
		var out []string
		for _, name := range list(answer) {
			upper := strings.ToUpper(name)
			_, ours := i.Spec.Region(antipode.Region(name))
			switch {
			case ours:
				out = append(out, name)
				continue
			case upper == "EU" || slices.Contains(geo.Countries(), upper):
				out = append(out, upper)
				continue
			case len(name) == 2:
				return fmt.Errorf("no cloud region is known in the country %q; those are in %s", upper, strings.Join(geo.Countries(), ", "))
			}
			p, err := place(name)
			if err != nil {
				return err
			}
			out = append(out, p.Code)
		}
		*to = out
		return nil
	}
}
