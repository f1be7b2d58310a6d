// Package cli is the antipode command: all that touches the process, which is
// flags, environment, signals, exit codes and the files of the data directory.
// What the commands do, they ask of the packages below.
//
// Main is called once, by main. Nothing in here needs closing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1   // it was tried and did not come about
	exitUsage       = 2   // nothing was tried: the command line or the spec is wrong
	exitInterrupted = 130 // Ctrl-C
)

const rootHelp = `antipode keeps an application's tables in several regions at once, behind the DynamoDB API.

  antipode plan                tell whether you need that, what would do instead, and what it costs
  antipode up                  start all regions of antipode.yaml (or a built-in one) on this machine
  eval "$(antipode env NAME)"  point the AWS CLI and SDKs of this shell at a region
  antipode status              how the regions are doing

Exit codes: 0 done; 1 tried and failed; 2 nothing was tried, since the command line or the spec is wrong;
130 interrupted.`

// Main runs the command that the process was started with and returns its exit code.
func Main() int {
	a := &app{
		name: os.Args[0], in: os.Stdin, out: os.Stdout, err: os.Stderr,
		now: time.Now, getenv: os.Getenv,
	}
	// Some commands end well on a signal: they handle it themselves and return nil.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer a.profile()()
	return a.run(ctx, os.Args[1:])
}

// app is what commands share.
type app struct {
	name   string // the program, as it was called
	in     io.Reader
	out    io.Writer // results
	err    io.Writer // progress, warnings, errors
	now    func() time.Time
	getenv func(string) string
}

// usageError is a mistake in how the command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		a.complain(err)
		a.note("See %s --help.", strings.Replace(cmd.CommandPath(), "antipode", a.name, 1))
		return exitUsage
	case errors.Is(err, errSpec):
		a.complain(err)
		return exitUsage
	case errors.Is(err, errAborted), ctx.Err() != nil && errors.Is(err, context.Canceled):
		a.note("interrupted")
		return exitInterrupted
	}
	a.complain(err)
	return exitFailed
}

// complain prints an error. One of several lines stands for itself.
func (a *app) complain(err error) {
	text := err.Error()
	if !strings.Contains(text, "\n") {
		text = "antipode: " + text
	}
	a.note("%s", text)
}

// note prints a line for people.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, format+"\n", args...) // there is nobody else to tell
}

// print writes a line of the result.
func (a *app) print(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.out, format+"\n", args...); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "antipode", Short: "Multi-region active-active tables", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// The flags of a command that there is not are not known either.
		if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
			return unknownCommand(cmd, words)
		}
		return usageError{err}
	})
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"plan", "Plan:", []*cobra.Command{a.planCommand(), a.probeCommand()}},
		{"run", "Run regions:", []*cobra.Command{a.upCommand(), a.regionCommand(), a.envCommand()}},
		{"look", "Look and act:", []*cobra.Command{a.statusCommand(), a.rpoCommand(), a.collisionCommand(), a.homeCommand(), a.linkCommand(), a.keyCommand(), a.importCommand(), a.exportCommand(), a.benchCommand(), a.drillCommand()}},
		{"roles", "Who accepts writes:", []*cobra.Command{a.switchCommand(), a.failoverCommand(), a.strandedCommand()}},
		{"install", "Install on several machines:", []*cobra.Command{a.caCommand(), a.tokenCommand(), a.joinCommand()}},
		{"spec", "The spec:", []*cobra.Command{a.specCommand(), a.schemaCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(a.versionCommand())
	return root
}

// group makes a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(children...)
	return c
}

// unknownCommand refuses words that are no command, with what may be meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("there is no command %s %s; did you mean %s?", cmd.CommandPath(), args[0], strings.Join(near, " or "))
	}
	return usagef("there is no command %s %s", cmd.CommandPath(), args[0])
}

// wantArgs checks the number of arguments; names are those of all that there may be.
func wantArgs(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s needs %s", cmd.CommandPath(), strings.Join(names[:least], " and "))
		case len(args) > len(names) && len(names) == 0:
			return usagef("%s takes no arguments, but got %q", cmd.CommandPath(), args[0])
		case len(args) > len(names):
			return usagef("%s takes no more than %s; %q is one too many", cmd.CommandPath(), strings.Join(names, " and "), args[len(names)])
		}
		return nil
	}
}

// defaultDir is the data directory where none is given.
const defaultDir = ".antipode"

func dataFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data", defaultDir, "data `directory`")
	_ = cmd.MarkFlagDirname("data") // fails for a flag that is not there
}

// outputFlag adds -o, which is text, json or one of more.
func outputFlag(cmd *cobra.Command, to *string, more ...string) {
	all := append([]string{"text", "json"}, more...)
	last := len(all) - 1
	choice := strings.Join(all[:last], ", ") + " or " + all[last]
	cmd.Flags().StringVarP(to, "output", "o", "text", "`format`: "+choice)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(all, *to) {
			return usagef("-o is %q; it can be %s", *to, choice)
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

// command says how to call this program again, for the same data directory.
func (a *app) command(dir string, args ...string) string {
	words := append([]string{a.name}, args...)
	if filepath.Clean(dir) != defaultDir {
		words = append(words, "--data", dir)
	}
	for i, w := range words {
		words[i] = shellQuote(w)
	}
	return strings.Join(words, " ")
}

// shellQuote makes a word of any text for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=@%+,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
