// Package plan answers "do you need active-active?": for each data set the
// cheapest strategy that meets what was asked, why cheaper ones don't, what it
// costs against one region, what physics allows, and the drills that hold it to
// its word. docs/plan.md tells how it decides.
//
// It is pure: a spec, measured round trips and the records of drills go in, a
// Report comes out. No clock, disk or network; everything may be called
// concurrently. Advise never fails: a wish that can't be met is in the report,
// with the nearest thing that can.
//
// Where to find what:
//
//   - rules.go is the table of rules, each with its condition, reason and source;
//   - numbers.go holds the figures that are assumed where nothing was said;
//   - availability.go, cost.go and latency.go are the formulas;
//   - lints.go is the table of contradictions that any spec is searched for.
//
// In a Report the same things have the same shape everywhere: durations are
// spec.Duration (JSON: a text like "5s"), a nil one means that there is no bound
// or that nothing was said; availabilities are per cent; money is in
// Report.Currency, per month unless the name says otherwise.
package plan
