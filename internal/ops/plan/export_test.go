package plan

// LintRules lists the names of the rules, for the test that each has a case.
func LintRules() []string {
	var out []string
	for _, r := range lintRules() {
		out = append(out, r.name)
	}
	return out
}
