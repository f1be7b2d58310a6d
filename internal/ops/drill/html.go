package drill

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed report.html.tmpl
var pageText string

// WriteHTML writes the report as one page that needs nothing else.
func (rec *Record) WriteHTML(out io.Writer) error {
	page, err := template.New("report").Funcs(template.FuncMap{"dict": func(p *webPage, c chart) onPage { return onPage{p, c} }}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := page.Execute(out, rec.page()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// webPage is what the template shows.
type webPage struct {
	*Record

	Tiles      []tile
	Legend     []legend
	Throughput chart
	Latency    chart
	Failures   chart
	Lanes      []lane
	LaneHeight int
	Marks      []mark
	MarkHeight int
	From, To   float64 // of the fault, on the x axis
	Width      int
	Left       int
	Plot       int // width of what is plotted
	Ticks      []tick
	Recoveries []recoveryBar
	Rows       []tableRow
	Complaints []complaint
	Trail      []trail
}

// onPage is a chart with what it shares with the others.
type onPage struct {
	Page  *webPage
	Chart chart
}

// Band is how wide the time of the fault is.
func (p *webPage) Band() float64 { return round1(p.To - p.From) }

// RightX is where what is plotted ends.
func (p *webPage) RightX() int { return p.Left + p.Plot }

// LabelX is where labels beside it end.
func (p *webPage) LabelX() int { return p.Left - 8 }

// LaneBox is the height of the lanes with their title and time axis.
func (p *webPage) LaneBox() int { return p.LaneHeight + 20 + 20 }

// tile is one figure in large.
type tile struct{ Name, Value, Promise, Class string }

type legend struct {
	Name  string
	Class string
}

// chart is some lines over the time of the drill.
type chart struct {
	Title string
	Lines []line
	Ticks []tick // of the y axis
}

type line struct{ Class, Path, Name string }

// tick is a label on an axis.
type tick struct {
	At   float64
	Text string
}

// lane is one table at one region, a cell a slice.
type lane struct {
	Name  string
	Y     float64
	Cells []cell
}

type cell struct {
	X, W  float64
	Class string
	Title string
}

// mark is an event on the time axis.
type mark struct {
	X     float64
	Class string
	Text  string
	Row   int // so that texts don't overlap
}

// Y is where the row of the text is.
func (m mark) Y() int { return m.Row * 15 }

// recoveryBar is one table's recovery, in parts; widths are per cent of the bar.
type recoveryBar struct {
	Table, Total string
	Text         []string // the parts in words
	Parts        []part
	Promise      float64
	Late         bool
}

type part struct {
	Class, Text string
	Width       float64
}

type tableRow struct {
	Name, Writes, RPO, RPOSeen, RTO, Pause string
	Acknowledged, Failed, Lost, Stranded   int
}

type complaint struct {
	Region, Kind, First string
	Count               int
}

type trail struct{ At, Class, Text string }

const (
	pageWidth   = 1120
	pageLeft    = 150
	pageRight   = 16
	chartHeight = 120
	laneHeight  = 15
)

func (rec *Record) page() *webPage {
	p := &webPage{Record: rec, Width: pageWidth, Left: pageLeft, Plot: pageWidth - pageLeft - pageRight}
	p.Tiles = rec.tiles()
	p.From, p.To = p.x(rec.FaultMS), p.x(rec.HealedMS)
	for i, r := range rec.Timeline.Regions {
		p.Legend = append(p.Legend, legend{string(r.Region), series(i)})
	}
	p.Throughput = p.chart("acknowledged writes per second", false, func(r *Progress) []float64 { return r.Writes })
	p.Failures = p.chart("failed writes per second", false, func(r *Progress) []float64 { return r.Failed })
	p.Latency = p.chart("p99 of acknowledged writes, ms (logarithmic)", true, func(r *Progress) []float64 { return r.P99 })
	p.lanes()
	p.marks()
	p.timeTicks()
	p.recoveries()
	for i := range rec.Figures {
		f := &rec.Figures[i]
		p.Rows = append(p.Rows, tableRow{
			Name: f.Table, Writes: string(f.Writes), RPO: inWords(f.RPO), RPOSeen: inWords(f.RPOSeen), RTO: inWords(f.total()), Pause: inWords(&f.Pause),
			Acknowledged: f.Acknowledged, Failed: f.Failed, Lost: f.Lost, Stranded: f.Stranded,
		})
	}
	for _, s := range rec.Sites {
		for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
			p.Complaints = append(p.Complaints, complaint{string(s.Name), kind, s.Errors[kind].First, s.Errors[kind].Count})
		}
	}
	for _, e := range rec.Events {
		p.Trail = append(p.Trail, trail{fmt.Sprintf("%.1f s", e.At/1000), e.Kind, e.Text})
	}
	return p
}

// Class gives a check's result as a class of the page's style.
func (c Check) Class() string { return strings.ReplaceAll(string(c.Result), " ", "-") }

func series(i int) string { return fmt.Sprintf("s%d", i%6) }

// tiles are the figures that a reader looks for first.
func (rec *Record) tiles() []tile {
	lost, rpo, rto, _ := rec.Summary()
	for _, f := range rec.Figures {
		if f.RPO != nil { // where there is a bound, the headline is how it was kept
			rpo = inWords(f.RPOSeen)
		}
	}
	if rto == "-" && rec.broken("RTO") {
		rto = "never"
	}
	acknowledged, stranded := 0, 0
	for _, f := range rec.Figures {
		acknowledged, stranded = acknowledged+f.Acknowledged, stranded+f.Stranded
	}
	class := func(names ...string) string {
		out := NotJudged
		for _, c := range rec.Checks {
			if slices.Contains(names, c.Name) && (c.Result == Broken || out == NotJudged) {
				out = c.Result
			}
		}
		return Check{Result: out}.Class()
	}
	promised := func(name string) string {
		for _, c := range rec.Checks {
			if c.Name == name {
				return c.Promised
			}
		}
		return ""
	}
	back := "never"
	if rec.BackMS >= 0 {
		m := rec.BackMS - rec.HealedMS
		back = inWords(&m)
	}
	return []tile{
		{"lost writes", fmt.Sprint(lost), fmt.Sprintf("of %d acknowledged; %d stranded and listed", acknowledged, stranded), class("acknowledged writes")},
		{"RPO", rpo, "promised " + promised("RPO"), class("RPO")},
		{"RTO", rto, "promised " + promised("RTO"), class("RTO")},
		{"roles moved", fmt.Sprint(len(rec.Moves)), promised("roles"), class("roles", "one writer")},
		{"back after", back, promised("return"), class("return")},
	}
}

func (rec *Record) broken(check string) bool {
	return slices.ContainsFunc(rec.Checks, func(c Check) bool { return c.Name == check && c.Result == Broken })
}

// x places a time.
func (p *webPage) x(at Millis) float64 {
	return round1(pageLeft + float64(at/(p.Timeline.SliceMS*Millis(max(p.Timeline.Slices, 1))))*float64(p.Plot))
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }

// chart draws a line for each region. Where there is no value the line breaks
// on a logarithmic scale, and is at 0 on a linear one.
func (p *webPage) chart(title string, logarithmic bool, of func(*Progress) []float64) chart {
	c := chart{Title: title}
	top := 1.0
	for i := range p.Timeline.Regions {
		for _, v := range of(&p.Timeline.Regions[i]) {
			top = max(top, v)
		}
	}
	y := func(v float64) float64 { return round1(chartHeight - v/top*chartHeight) }
	if logarithmic {
		top = math.Pow(10, math.Ceil(math.Log10(top)))
		y = func(v float64) float64 {
			return round1(chartHeight - max(math.Log10(v), 0)/max(math.Log10(top), 1)*chartHeight)
		}
		for v := 1.0; v <= top; v *= 10 {
			c.Ticks = append(c.Ticks, tick{y(v), fmt.Sprintf("%.0f", v)})
		}
	} else {
		step := niceStep(top, 4)
		for v := 0.0; v <= top; v += step {
			c.Ticks = append(c.Ticks, tick{y(v), fmt.Sprintf("%.0f", v)})
		}
	}
	for i := range p.Timeline.Regions {
		r := &p.Timeline.Regions[i]
		var b strings.Builder
		pen := "M"
		for k, v := range of(r) {
			if logarithmic && v == 0 {
				pen = "M"
				continue
			}
			fmt.Fprintf(&b, "%s%g %g", pen, p.x(Millis(k)*p.Timeline.SliceMS+p.Timeline.SliceMS/2), y(v))
			pen = "L"
		}
		c.Lines = append(c.Lines, line{series(i), b.String(), string(r.Region)})
	}
	return c
}

// niceStep divides a range into about so many parts of 1, 2 or 5 times a power of ten.
func niceStep(top float64, parts int) float64 {
	raw := top / float64(parts)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if raw <= m*power {
			return m * power
		}
	}
	return 10 * power
}

func (p *webPage) lanes() {
	p.LaneHeight = len(p.Timeline.Lanes)*(laneHeight+3) + 4
	for i, l := range p.Timeline.Lanes {
		out := lane{Name: string(l.Region) + " · " + strings.TrimPrefix(l.Table, tablePrefix), Y: float64(i * (laneHeight + 3))}
		for k := range l.Done {
			x := p.x(Millis(k) * p.Timeline.SliceMS)
			c := cell{X: x, W: round1(p.x(Millis(k+1)*p.Timeline.SliceMS) - x), Class: cellClass(l.Done[k], l.Failed[k])}
			if at := Millis(k) * p.Timeline.SliceMS; c.Class == "wait" && (at < p.LoadMS || k == len(l.Done)-1) {
				continue
			}
			c.Title = fmt.Sprintf("%s, %s at %.1f s: %d acknowledged, %d failed", l.Table, l.Region, Millis(k)*p.Timeline.SliceMS/1000, l.Done[k], l.Failed[k])
			// Cells that look alike are one, so that the page stays small.
			if n := len(out.Cells); n > 0 && out.Cells[n-1].Class == c.Class && (c.Class == "all" || c.Class == "wait") && round1(out.Cells[n-1].X+out.Cells[n-1].W) == c.X {
				out.Cells[n-1].W = round1(c.X + c.W - out.Cells[n-1].X)
				out.Cells[n-1].Title = fmt.Sprintf("%s at %s: %s", l.Table, l.Region, map[string]string{"all": "all acknowledged", "wait": "no answer"}[c.Class])
				continue
			}
			out.Cells = append(out.Cells, c)
		}
		p.Lanes = append(p.Lanes, out)
	}
}

func cellClass(done, failed int) string {
	switch {
	case done > 0 && failed == 0:
		return "all"
	case done > 0:
		return "some"
	case failed > 0:
		return "none"
	}
	return "wait"
}

// marks puts the events that matter on the time axis, each text in the first row
// where it has room.
func (p *webPage) marks() {
	var ends [4]float64
	add := func(at Millis, class, text string) {
		m := mark{X: p.x(at), Class: class, Text: text}
		for m.Row < len(ends)-1 && m.X < ends[m.Row] {
			m.Row++
		}
		ends[m.Row] = m.X + float64(len(text))*6 + 14
		p.Marks = append(p.Marks, m)
	}
	add(p.FaultMS, "fault", "fault")
	// Several failovers, one for each set of replicas, go on side by side.
	told := map[string]bool{}
	once := func(at time.Duration, text string) {
		if !told[text] {
			told[text] = true
			add(millis(at), "role", text)
		}
	}
	for _, f := range p.Failovers {
		once(f.Began, fmt.Sprintf("lease of %s ended", f.Lost))
	}
	for _, f := range p.Failovers {
		if f.Fixed > 0 {
			once(f.Fixed, "cutoff")
		}
	}
	if len(p.Failovers) == 0 {
		for _, m := range p.Moves {
			once(m.At, "role to "+string(m.To))
		}
	}
	if worst := p.firstElsewhere(); worst > 0 {
		add(worst, "good", "all written elsewhere")
	}
	add(p.HealedMS, "heal", "healed")
	if p.BackMS >= 0 {
		add(p.BackMS, "good", "all live")
	}
	for _, m := range p.Marks {
		p.MarkHeight = max(p.MarkHeight, m.Y()+18)
	}
	slices.SortStableFunc(p.Marks, func(a, b mark) int { return int(a.X - b.X) })
}

// firstElsewhere is when every table that needs a role was written elsewhere.
func (p *webPage) firstElsewhere() Millis {
	var worst Millis
	for i := range p.Figures {
		if r := p.Figures[i].Recovery; r != nil {
			worst = max(worst, p.FaultMS+r.Total)
		}
	}
	return worst
}

func (p *webPage) timeTicks() {
	total := float64(p.Timeline.SliceMS) * float64(max(p.Timeline.Slices, 1))
	step := max(niceStep(total/1000, 10), 1) * 1000
	for at := 0.0; at <= total; at += step {
		p.Ticks = append(p.Ticks, tick{p.x(Millis(at)), fmt.Sprintf("%.0f s", at/1000)})
	}
}

// recoveries draws what recovery was made of, beside what was promised.
func (p *webPage) recoveries() {
	const promise = 5000 // where the bar's mark is when the check does not say
	scale := Millis(promise * 1.25)
	for _, f := range p.Figures {
		if f.Recovery != nil {
			scale = max(scale, f.Recovery.Total*1.1)
		}
	}
	for _, f := range p.Figures {
		r := f.Recovery
		if r == nil {
			continue
		}
		bar := recoveryBar{Table: f.Table, Total: inWords(&r.Total), Promise: round1(float64(promise / scale * 100)), Late: r.Total > promise}
		add := func(class string, m *Millis) {
			if m != nil {
				bar.Parts = append(bar.Parts, part{class, class, round1(float64(*m / scale * 100))})
				bar.Text = append(bar.Text, class+" "+inWords(m))
			}
		}
		if r.Detect == nil {
			add("recovery", &r.Total)
		}
		add("detect", r.Detect)
		add("decide", r.Decide)
		add("execute", r.Execute)
		p.Recoveries = append(p.Recoveries, bar)
	}
}
