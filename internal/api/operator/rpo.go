package operator

import (
	"context"
	"net/http"
	"time"

	"github.com/antipode-io/antipode"
)

// ProtectionStatus is how far a region's tables keep their rpo there.
type ProtectionStatus struct {
	Region antipode.Region   `json:"region"`
	Tables []TableProtection `json:"tables"`
}

// TableProtection is how far one table keeps its rpo in one region.
type TableProtection struct {
	Name string `json:"name"`
	RPO  string `json:"rpo"` // as the spec has it; empty where nothing is promised
	// Copies is how many other regions have to have a write on disk before it is
	// answered: 0 unless the rpo is 0s.
	Copies int `json:"copies"`
	// Policy says what happens while they are missing: degrade or block.
	Policy string `json:"policy,omitempty"`
	// OldestMS is the age of the oldest write of the region that the others don't
	// have on disk: on Copies of them, or on one.
	OldestMS int64 `json:"oldest_ms"`
	// Missing: copies have been waited for in vain; what Policy says happens now.
	Missing bool `json:"missing,omitempty"`
	// Unprotected are the times in which writes were answered without the copies
	// promised, oldest first.
	Unprotected []UnprotectedStretch `json:"unprotected"`
}

// UnprotectedStretch is a time in which writes were answered without the copies
// that their table promises.
type UnprotectedStretch struct {
	First  UnprotectedWrite `json:"first"`
	Last   UnprotectedWrite `json:"last"`
	Writes uint64           `json:"writes"`
	// Ended is when the others had all of them; nil while they don't.
	Ended *time.Time `json:"ended,omitempty"`
}

// UnprotectedWrite is one write of a stretch.
type UnprotectedWrite struct {
	Dot   string    `json:"dot"`
	Stamp string    `json:"stamp"` // as Stamp.String
	At    time.Time `json:"at"`    // the time in the stamp
}

func (s *Server) unprotected(r *http.Request) (any, error) {
	return s.cfg.Backend.Unprotected(r.Context())
}

// Unprotected asks how far the region keeps what its tables promise.
func (c *Client) Unprotected(ctx context.Context) (ProtectionStatus, error) {
	var st ProtectionStatus
	err := c.call(ctx, http.MethodGet, "/v1/unprotected", nil, &st)
	return st, err
}
