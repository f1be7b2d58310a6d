package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// BenchmarkAdvise is for the largest of systems: ten regions, ten data sets that ask for too much.
func BenchmarkAdvise(b *testing.B) {
	var t strings.Builder
	t.WriteString("regions:\n")
	for _, code := range []string{"us-west-2", "us-east-1", "sa-east-1", "eu-west-1", "eu-central-1", "af-south-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1"} {
		fmt.Fprintf(&t, "  - {name: %s}\n", code)
	}
	t.WriteString("needs:\n  users:\n    - {name: a, location: us-east-1}\n    - {name: b, location: ap-southeast-2}\n    - {name: c, location: eu-west-1}\n  data:\n")
	for i := range 10 {
		fmt.Fprintf(&t, "    - {name: data-%d, why: [continuity, latency], rpo: 0s, rto: 1m, reads: {p99: 60ms}, writes: {p99: 40ms}}\n", i)
	}
	s, src, err := spec.Read([]byte(t.String()), "antipode.yaml")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		plan.Advise(plan.Input{Spec: s, Source: src})
	}
}
