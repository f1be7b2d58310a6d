package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestShort: all specs there are come back the same, and shorter.
func TestShort(t *testing.T) {
	for name, text := range good(t) {
		s := load(t, text)
		short, err := s.Short()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, load(t, string(short))); diff != "" {
			t.Errorf("%s: -want +got\n%s\nin\n%s", name, diff, short)
		}
		if long, err := s.Marshal(); err != nil || len(short) > len(long) {
			t.Errorf("%s: %d bytes, spelled out %d (%v)", name, len(short), len(long), err)
		}
	}
	builtin, err := Builtin().Short()
	if err != nil {
		t.Fatal(err)
	}
	for _, not := range []string{"addresses", "base_port", "failover", "replicas", "3s"} {
		if strings.Contains(string(builtin), not) {
			t.Errorf("the built-in spec says %s, which is a default:\n%s", not, builtin)
		}
	}
}

func TestTidy(t *testing.T) {
	const long = "a: 4h0m0s\nb: 1h30m0s\nc: 5m0s\nd: 10s\ne: 0s\nf: 250ms\ng: 1h0m5s\nh: 10m10s\ni: 100.0\nj: 1.05\n"
	const want = "a: 4h\nb: 1h30m\nc: 5m\nd: 10s\ne: 0s\nf: 250ms\ng: 1h0m5s\nh: 10m10s\ni: 100\nj: 1.05\n"
	if got := string(tidy([]byte(long))); got != want {
		t.Errorf("got\n%s", got)
	}
}
