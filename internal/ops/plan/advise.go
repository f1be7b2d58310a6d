package plan

import (
	"fmt"
	"strconv"
	"time"
)

// Advise answers for every data set of the input.
func Advise(in Input) Report {
	r := Report{Currency: "USD", advised: in.Spec}
	if n := in.Spec.Needs; n != nil {
		for i := range n.Data {
			r.Data = append(r.Data, Answer{Name: n.Data[i].Name, Asked: true})
		}
	}
	return r
}

func span(d time.Duration) string {
	f := func(v float64, unit string) string { return strconv.FormatFloat(v, 'f', -1, 64) + " " + unit }
	round := func(v float64) float64 {
		text := strconv.FormatFloat(v, 'g', 3, 64)
		out, err := strconv.ParseFloat(text, 64)
		if err != nil {
			panic(fmt.Sprintf("plan: %q is no number: %v", text, err))
		}
		return out
	}
	switch {
	case d == 0:
		return "0 s"
	case d < time.Second:
		return f(round(float64(d)/float64(time.Millisecond)), "ms")
	case d < 2*time.Minute:
		return f(round(d.Seconds()), "s")
	case d < 2*time.Hour:
		return f(round(d.Minutes()), "min")
	case d < 72*time.Hour:
		return f(round(d.Hours()), "h")
	default:
		return f(round(d.Hours()/24), "d")
	}
}
