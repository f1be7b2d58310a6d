package plan

import "github.com/antipode-io/antipode/internal/spec"

func lints(w *world, src *spec.Source, verdicts []*verdict) []Lint { return []Lint{} }
