package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode/internal/api/operator"
)

func (a *app) rpoCommand() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use: "rpo", Short: "Show what would be lost with a region now, against what the tables promise", Args: wantArgs(0, ""),
		Long: "Show, per region and table, what its rpo promises, the age of the oldest write that is in no other region yet (with\n" +
			"an rpo of 0s: on fewer others than promised), and each time in which writes were answered without the copies promised.\n\n" +
			"With -o json:\n" +
			`  {"regions":[{"region","tables":[{"name","rpo","copies","policy","oldest_ms","missing",` + "\n" +
			`    "unprotected":[{"first":{"dot","stamp","at"},"last":{…},"writes","ended"}]}]}]}` + "\n" +
			"ended is missing while the others don't have all of it. A region that does not answer is left out, and said on stderr.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := a.openInstall(dir)
			if err != nil {
				return err
			}
			all, failed := in.unprotected(cmd.Context())
			if output == "json" {
				err = a.printJSON(struct {
					Regions []operator.ProtectionStatus `json:"regions"`
				}{all})
			} else {
				err = a.printProtection(all)
			}
			return errors.Join(append([]error{err}, failed...)...)
		},
	}
	dataFlag(cmd, &dir)
	outputFlag(cmd, &output)
	return cmd
}

// unprotected asks the regions that store data, in the order of the spec.
func (in *install) unprotected(ctx context.Context) (all []operator.ProtectionStatus, failed []error) {
	regions := in.local()
	answers := make([]operator.ProtectionStatus, len(regions))
	errs := make([]error, len(regions))
	var wg sync.WaitGroup
	for i, r := range regions {
		if r.Witness {
			continue
		}
		wg.Go(func() {
			errs[i] = in.call(ctx, r, func(ctx context.Context, c *operator.Client) (err error) {
				answers[i], err = c.Unprotected(ctx)
				return err
			})
		})
	}
	wg.Wait()
	all = []operator.ProtectionStatus{}
	for i, r := range regions {
		switch {
		case errs[i] != nil:
			failed = append(failed, errs[i])
		case !r.Witness:
			all = append(all, answers[i])
		}
	}
	return all, failed
}

func (a *app) printProtection(all []operator.ProtectionStatus) error {
	rows := [][]string{{"REGION", "TABLE", "RPO", "COPIES", "OLDEST NOT ELSEWHERE", "UNPROTECTED", "NOW"}}
	var stretches [][]string
	for _, r := range all {
		for _, t := range r.Tables {
			copies, writes, now := "-", uint64(0), "kept"
			if t.Copies > 0 {
				copies = strconv.Itoa(t.Copies)
			}
			for _, s := range t.Unprotected {
				writes += s.Writes
				ended := "not yet"
				if s.Ended != nil {
					ended = s.Ended.Format(time.RFC3339)
				}
				stretches = append(stretches, []string{
					string(r.Region), t.Name, strconv.FormatUint(s.Writes, 10),
					s.First.Dot + " at " + s.First.At.Format(time.RFC3339Nano), s.Last.Dot + " at " + s.Last.At.Format(time.RFC3339Nano), ended,
				})
			}
			bound, err := time.ParseDuration(t.RPO)
			switch {
			case err != nil:
				now = "nothing promised"
			case t.Missing && t.Policy == "block":
				now = "writes wait for copies"
			case t.Missing:
				now = "writes are answered without copies"
			case bound > 0 && t.OldestMS > bound.Milliseconds():
				now = "writes are held back"
			}
			rows = append(rows, []string{
				string(r.Region), t.Name, orDash(t.RPO), copies, fmt.Sprintf("%d ms", t.OldestMS), strconv.FormatUint(writes, 10) + " writes", now,
			})
		}
	}
	if err := a.table(rows); err != nil || len(stretches) == 0 {
		return err
	}
	head := []string{"REGION", "TABLE", "WRITES", "FIRST", "LAST", "ELSEWHERE SINCE"}
	return errors.Join(a.print("\nAnswered without the copies promised:"), a.table(append([][]string{head}, stretches...)))
}
