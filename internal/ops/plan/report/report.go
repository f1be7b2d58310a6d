// Package report shows a plan: as text for a terminal, as Markdown, and as one
// web page that needs nothing else, with a map and a picture of the ladder of
// strategies. It only writes: all that it shows is in the plan.Report.
//
// Its functions are pure and may be called concurrently.
package report
