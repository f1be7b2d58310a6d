package plan

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/antipode-io/antipode/internal/spec"
)

// This file writes values for people.

// Span writes a duration for people: 0 s, 250 ms, 5 s, 1.5 h, 3 d.
func Span(d spec.Duration) string { return span(time.Duration(d)) }

func span(d time.Duration) string {
	of := func(unit time.Duration, name string) string { return number(float64(d)/float64(unit)) + " " + name }
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "0 s"
	case d < time.Second:
		return of(time.Millisecond, "ms")
	case d > 3*day:
		return of(day, "days")
	case d%time.Hour == 0, d > 2*time.Hour:
		return of(time.Hour, "h")
	case d%time.Minute == 0, d > 2*time.Minute:
		return of(time.Minute, "min")
	default:
		return of(time.Second, "s")
	}
}

// written writes a duration as one would in the file: 6h, not 6h0m0s.
func written(d spec.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// number writes three digits of a number, and all that stand before the point.
func number(v float64) string {
	if a := math.Abs(v); a >= 1000 || a == 0 {
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', min(digits, 12), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// percent writes an availability with as many nines as it has, and one digit more.
func percent(v float64) string {
	missing := 100 - v
	digits := 1
	if missing > 0 && missing < 1 {
		digits = min(8, int(math.Ceil(-math.Log10(missing)))+1)
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".") + " %"
}

// money writes an amount with its currency, in thousands with commas.
func (w *world) money(v float64) string {
	text := strconv.FormatFloat(math.Abs(math.Round(v)), 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if math.Round(v) < 0 {
		text = "-" + text
	}
	return text + " " + w.currency()
}

func (w *world) currency() string {
	if w.needs.Currency == "" {
		return "USD"
	}
	return w.needs.Currency
}

func gigabytes(gb float64) string {
	if gb >= 1000 {
		return number(gb/1000) + " TB"
	}
	return number(gb) + " GB"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func quoted[S ~string](words []S) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}

func names(sites []site) string {
	out := make([]string, len(sites))
	for i, s := range sites {
		out[i] = s.name
	}
	return list(out)
}

// list writes words as in a sentence.
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		return strings.Join(slices.Clip(words[:n-1]), ", ") + " and " + words[n-1]
	}
}
