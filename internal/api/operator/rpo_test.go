package operator

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (f *fake) Unprotected(context.Context) (ProtectionStatus, error) {
	return f.protection, nil
}

// TestUnprotected checks that what a region says of its promises arrives as it is.
func TestUnprotected(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	f := &fake{protection: ProtectionStatus{Region: "oregon", Tables: []TableProtection{
		{Name: "carts", RPO: "5s", OldestMS: 120, Unprotected: []UnprotectedStretch{}},
		{Name: "orders", RPO: "0s", Copies: 1, Policy: "degrade", Missing: true, Unprotected: []UnprotectedStretch{
			{First: UnprotectedWrite{"oregon:1f/3:7", "s1", at}, Last: UnprotectedWrite{"oregon:1f/4:9", "s2", at}, Writes: 2, Ended: &at},
		}},
	}}}
	c, _ := serve(t, f)
	got, err := c.Unprotected(t.Context())
	if diff := cmp.Diff(f.protection, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}
