package model

import "testing"

// TestLeases: a lease is counted so that the group can go on without its holder.
func TestLeases(t *testing.T) {
	states, wrong := CheckLeases()
	if wrong != "" {
		t.Fatalf("after\n%s", wrong)
	}
	t.Logf("%d states", states)
	for _, bug := range LeaseBugs() {
		t.Run(string(bug), func(t *testing.T) {
			states, wrong := CheckLeases(bug)
			t.Logf("%d states\n%s", states, wrong)
			if wrong == "" {
				t.Error("not noticed")
			}
		})
	}
}
