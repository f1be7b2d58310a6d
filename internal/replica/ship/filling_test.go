package ship

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

// TestFillingDoesNotCount checks that what a member holds while it is being
// given back what it lost leaves nothing stable, and that all of it counts at
// once, without a further write, when that is over.
func TestFillingDoesNotCount(t *testing.T) {
	filling := true
	a := newMember(t, "oregon", nil)
	b := newMember(t, "mumbai", func(c *Config) { c.Filling = func() bool { return filling } })
	a.write(0, "1")
	a.write(0, "2")
	w := connect(t, a, b, 0)
	defer w.close()
	w.flow()
	w.acks()
	sh, members := a.log.Shard(antipode.ShardSet(regions)), []antipode.Region{"oregon", "mumbai"}
	if got := sh.Stable(members); len(got) != 0 {
		t.Errorf("stable while mumbai is being filled: %v", got)
	}
	filling = false
	w.acks()
	if diff := cmp.Diff(antipode.Frontier{}.With(a.log.Origin(), 2), sh.Stable(members)); diff != "" {
		t.Errorf("stable when mumbai is filled: %s", diff)
	}
}
