package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"charm.land/huh/v2"
	"github.com/charmbracelet/x/term"

	"github.com/antipode-io/antipode/internal/ops/plan/interview"
)

// errNoAnswer marks an interview whose answers ended too early.
var errNoAnswer = errors.New("the answers ended before the questions did")

// isTerminal reports whether a person sits at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// interview asks all questions, in a form at a terminal, else line by line. When
// it returns an error nothing is to be kept.
func (a *app) interview(ctx context.Context, i *interview.Interview, plain bool) error {
	lines := bufio.NewReader(a.in)
	for {
		page, more := i.Next()
		if !more {
			i.Tidy()
			return nil
		}
		var err error
		if plain || !isTerminal(a.in) || !isTerminal(a.out) {
			err = a.askLines(lines, page)
		} else {
			err = a.askForm(ctx, page)
		}
		if err != nil {
			return err
		}
	}
}

// askLines asks one question after the other. An empty line takes the default,
// and what can't be understood is asked again.
func (a *app) askLines(in *bufio.Reader, page interview.Page) error {
	a.note("\n== %s ==", page.Title)
	for _, q := range page.Questions {
		a.note("\n%s", q.Ask)
		if q.Help != "" {
			a.note("  %s", q.Help)
		}
		for n, o := range q.Options {
			a.note("  %d  %-14s %s", n+1, o.Value, o.Says)
		}
		for {
			hint := q.Default
			if hint == "" {
				hint = "-"
			}
			_, _ = fmt.Fprintf(a.err, "[%s] > ", hint) // there is nobody else to tell
			line, err := in.ReadString('\n')
			if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
				a.note("")
				if errors.Is(err, io.EOF) {
					return fmt.Errorf("%w, at %s (%s); nothing was written. Scripts give their answers with --answers FILE", errNoAnswer, q.Field, q.Ask)
				}
				return fmt.Errorf("read the answer: %w", err)
			}
			answer := strings.TrimSpace(line)
			if answer == "" {
				answer = q.Default
			}
			if err = q.Set(byNumber(q, answer)); err == nil {
				break
			}
			a.note("  %v", err)
		}
	}
	return nil
}

// byNumber lets options be chosen by their numbers.
func byNumber(q interview.Question, answer string) string {
	if len(q.Options) == 0 {
		return answer
	}
	parts := strings.Split(answer, ",")
	for i, p := range parts {
		if n, err := strconv.Atoi(strings.TrimSpace(p)); err == nil && n >= 1 && n <= len(q.Options) {
			parts[i] = q.Options[n-1].Value
		}
	}
	return strings.Join(parts, ",")
}

// askForm asks a page at once.
func (a *app) askForm(ctx context.Context, page interview.Page) error {
	fields := []huh.Field{huh.NewNote().Title(page.Title)}
	take := make([]func() error, len(page.Questions))
	for i, q := range page.Questions {
		switch q.Kind {
		case interview.One:
			value := q.Default
			fields = append(fields, huh.NewSelect[string]().Title(q.Ask).Description(q.Help).Options(options(q)...).Value(&value))
			take[i] = func() error { return q.Set(value) }
		case interview.Some:
			value := strings.FieldsFunc(q.Default, func(r rune) bool { return r == ',' || r == ' ' })
			fields = append(fields, huh.NewMultiSelect[string]().Title(q.Ask).Description(q.Help).Options(options(q)...).Value(&value))
			take[i] = func() error { return q.Set(strings.Join(value, ",")) }
		default:
			value := q.Default
			fields = append(fields, huh.NewInput().Title(q.Ask).Description(q.Help).Placeholder("-").Value(&value).Validate(q.Set))
			take[i] = func() error { return q.Set(value) }
		}
	}
	form := huh.NewForm(huh.NewGroup(fields...)).WithInput(a.in).WithOutput(a.out)
	if err := form.RunWithContext(ctx); err != nil {
		if errors.Is(err, huh.ErrUserAborted) {
			return fmt.Errorf("%w: nothing was written", errAborted)
		}
		return fmt.Errorf("ask at the terminal: %w; try --plain", err)
	}
	for _, t := range take {
		if err := t(); err != nil {
			return err
		}
	}
	return nil
}

func options(q interview.Question) []huh.Option[string] {
	var out []huh.Option[string]
	for _, o := range q.Options {
		out = append(out, huh.NewOption(o.Says, o.Value))
	}
	return out
}

// errAborted marks what a person broke off.
var errAborted = errors.New("broken off")
