package spec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is what every *Error is.
var ErrInvalid = errors.New("invalid spec")

// Problem is one mistake in a spec.
type Problem struct {
	Line    int    // from 1; 0 for the file as a whole
	Column  int    // from 1, in characters
	Message string // what is wrong
	Fix     string // what to write instead
}

// Error lists the mistakes in a spec, in the file's order.
type Error struct {
	File     string
	Problems []Problem
	lines    []string
}

// shown is how many problems are printed: more than a screenful helps nobody.
const shown = 10

// Error shows the first ten problems, each with its place, excerpt and fix.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i == shown {
			fmt.Fprintf(&b, "%s: and %d more\n", e.File, len(e.Problems)-shown)
			break
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": " + p.Message + "\n")
		e.excerpt(&b, p)
		if p.Fix != "" {
			b.WriteString("  fix: " + p.Fix + "\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// excerpt prints the line with two before and one after, and a caret below.
func (e *Error) excerpt(b *strings.Builder, p Problem) {
	if p.Line < 1 || p.Line > len(e.lines) {
		return
	}
	width := len(strconv.Itoa(p.Line + 1))
	for n := max(1, p.Line-2); n <= min(len(e.lines), p.Line+1); n++ {
		mark := "  "
		if n == p.Line {
			mark = "> "
		}
		line, caret := cut(e.lines[n-1], p.Column)
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %s%*d | %s", mark, width, n, line), " ") + "\n")
		if n == p.Line {
			fmt.Fprintf(b, "  %s%*s | %s^\n", "  ", width, "", strings.Repeat(" ", caret))
		}
	}
}

// cut shortens a line so that column stays in sight, and makes it fit to print:
// tabs and control characters become spaces. It returns where the column is.
func cut(line string, column int) (string, int) {
	const before, after = 60, 40
	runes := []rune(strings.ToValidUTF8(line, "\uFFFD"))
	for i, r := range runes {
		if r < ' ' || r == utf8.RuneError || r == 0x7f {
			runes[i] = ' '
		}
	}
	at := min(max(column-1, 0), len(runes))
	from, to := 0, len(runes)
	if len(runes) > before+after {
		from, to = max(0, at-before), min(len(runes), at+after)
	}
	return string(runes[from:to]), at - from
}

// nearest returns the candidate that a misspelt word most likely meant, or "".
func nearest(word string, candidates []string) string {
	best, bestDist := "", 3
	if len(word) < 4 {
		bestDist = 2
	}
	for _, c := range candidates {
		if len(c)-len(word) > 3 || len(word)-len(c) > 3 {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	if best == "" && len(word) >= 3 { // a part of it: "mum" for "mumbai"
		for _, c := range candidates {
			if strings.HasPrefix(c, strings.ToLower(word)) {
				return c
			}
		}
	}
	return best
}

// distance counts the characters to insert, remove, replace or swap with their
// neighbour that make a into b (optimal string alignment).
func distance(a, b string) int {
	var before []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev = prev, row
	}
	return prev[len(b)]
}

func quoted[S ~string](words []S) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}

func texts[S ~string](words []S) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}
