package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/antipode-io/antipode"
)

// Roles moves the rights to accept writes: those of a table's writer and of homes.
type Roles interface {
	// Switch hands roles over without a failed write. It returns once the other
	// region has them all, or with SwitchStatus.Pending when ctx ends before. With
	// SwitchRequest.Cancel it calls off what has not begun to move.
	Switch(ctx context.Context, q SwitchRequest) (SwitchStatus, error)
	// Failover gives the roles of a lost region to others.
	Failover(ctx context.Context, q FailoverRequest) (FailoverResult, error)
	Failovers(ctx context.Context) (FailoverList, error)
	// Stranded lists the writes of a region that a failover left behind; of all
	// regions when it is empty.
	Stranded(ctx context.Context, region antipode.Region) ([]Stranded, error)
	// DecideStranded restores or discards stranded writes, one after the other. It
	// says of each what became of it.
	DecideStranded(ctx context.Context, q DecideRequest) ([]Decision, error)
}

// SwitchRequest asks for a planned switch of one table's roles, or of all that
// one region holds; or calls off the one that is under way, to that region or,
// where none is named, to any.
type SwitchRequest struct {
	Table  string          `json:"table,omitempty"`
	Region antipode.Region `json:"region,omitempty"`
	To     antipode.Region `json:"to,omitempty"`
	Cancel bool            `json:"cancel,omitempty"`
	By     string          `json:"by"`
	Why    string          `json:"why,omitempty"`
}

// RoleStatus is one role. Home is empty for that of a global table's writer.
type RoleStatus struct {
	Table  string          `json:"table"`
	Home   antipode.Region `json:"home,omitempty"`
	Holder antipode.Region `json:"holder"`
	Epoch  uint64          `json:"epoch"`
	Next   antipode.Region `json:"next,omitempty"` // whom it is being switched to
	// Failover is the one by which the holder is getting it, while it has no
	// cutoff: nobody accepts writes until then.
	Failover uint64 `json:"failover,omitempty"`
}

// SwitchStatus is how far a switch has come.
type SwitchStatus struct {
	Roles   []RoleStatus `json:"roles"`             // that were asked to move; or that stay, where it was called off
	Pending int          `json:"pending,omitempty"` // of them, how many have not moved yet; or how many more go on, past being called off
	Skipped []string     `json:"skipped,omitempty"` // tables that the other region does not keep
}

// FailoverRequest asks for a failover by a person.
type FailoverRequest struct {
	Region antipode.Region `json:"region"` // which is lost
	// Force lets the region that is asked take the roles by itself when no majority
	// can be reached.
	Force bool   `json:"force,omitempty"`
	By    string `json:"by"`
	Why   string `json:"why,omitempty"`
}

// FailoverResult says what a failover by a person came to.
type FailoverResult struct {
	Roles []RoleStatus `json:"roles"` // that have a new holder
	// Forced: it was done by this region alone, and the others learn of it later.
	Forced  bool     `json:"forced,omitempty"`
	Pending bool     `json:"pending,omitempty"` // the cutoff is not fixed yet
	Left    []string `json:"left,omitempty"`    // tables whose roles nobody could take over
}

// FailoverList is what there is to know of failovers.
type FailoverList struct {
	Failovers []FailoverStatus `json:"failovers"` // the latest first
	Leases    []LeaseStatus    `json:"leases"`
}

// FailoverStatus is one failover, under way or ended.
type FailoverStatus struct {
	ID        uint64          `json:"id"` // 0 for one that a person forced, and only its successor knows of yet
	Lost      antipode.Region `json:"lost"`
	Successor antipode.Region `json:"successor"`
	Roles     []RoleStatus    `json:"roles"` // with the epochs that it began
	Forced    bool            `json:"forced,omitempty"`
	By        string          `json:"by,omitempty"` // a person, when one asked for it
	Why       string          `json:"why,omitempty"`
	Began     int64           `json:"began"`           // milliseconds since the Unix epoch
	Fixed     int64           `json:"fixed,omitempty"` // when the cutoff was fixed; 0: under way
	// WaitsFor are the regions that have yet to say what they have.
	WaitsFor []antipode.Region `json:"waits_for,omitempty"`
	// Waits says in words what it waits for, while it has no cutoff.
	Waits string `json:"waits,omitempty"`
}

// LeaseStatus is the lease of a region that stores data, as seen from the one
// that was asked.
type LeaseStatus struct {
	Region    antipode.Region `json:"region"`
	Condition string          `json:"condition"` // waiting, live, suspect, lost, detached, returning or back
	Why       string          `json:"why,omitempty"`
	Fenced    bool            `json:"fenced,omitempty"`
	Since     int64           `json:"since,omitempty"` // milliseconds since the Unix epoch: fenced, or back
	AgeMS     int64           `json:"age_ms"`          // since it was seen to be renewed
}

// Stranded is one acknowledged write that a failover left behind.
type Stranded struct {
	Dot    string          `json:"dot"`
	Table  string          `json:"table"`
	Key    json.RawMessage `json:"key"`   // DynamoDB JSON
	Kind   string          `json:"kind"`  // write, accept or handoff
	Stamp  string          `json:"stamp"` // when it was acknowledged, by its author's clock
	Home   antipode.Region `json:"home,omitempty"`
	Item   json.RawMessage `json:"item"`  // DynamoDB JSON, as it wrote it; null for a delete
	State  string          `json:"state"` // open, restored or discarded
	By     string          `json:"by,omitempty"`
	At     int64           `json:"at,omitempty"` // milliseconds since the Unix epoch
	Now    json.RawMessage `json:"now"`          // what stands in its place; null for nothing
	Unsure bool            `json:"unsure,omitempty"`
	Again  string          `json:"again,omitempty"` // the write that was made of the same request since
}

// DecideRequest restores or discards stranded writes.
type DecideRequest struct {
	Dots    []string `json:"dots"`
	Restore bool     `json:"-"`
	// Force restores even where the item has changed since it was listed.
	Force bool   `json:"force,omitempty"`
	By    string `json:"by"`
}

// Decision says what became of one stranded write.
type Decision struct {
	Dot   string `json:"dot"`
	Error string `json:"error,omitempty"`
}

func (s *Server) roleCalls() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"POST /v1/switch":           s.switchRoles,
		"POST /v1/failover":         s.failover,
		"GET /v1/failovers":         func(r *http.Request) (any, error) { return s.cfg.Backend.Failovers(r.Context()) },
		"GET /v1/stranded":          s.stranded,
		"POST /v1/stranded/restore": func(r *http.Request) (any, error) { return s.decide(r, true) },
		"POST /v1/stranded/discard": func(r *http.Request) (any, error) { return s.decide(r, false) },
	}
}

func (s *Server) switchRoles(r *http.Request) (any, error) {
	var q SwitchRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if (q.Table == "") == (q.Region == "") || q.To == "" && !q.Cancel {
		return nil, fmt.Errorf("%w: a switch names a table or a region, and whom to switch to", ErrInvalid)
	}
	if q.By == "" {
		return nil, errNobody
	}
	return s.cfg.Backend.Switch(r.Context(), q)
}

// errNobody refuses what is recorded under a name.
var errNobody = fmt.Errorf("%w: it says not who asks (by); that is kept on record", ErrInvalid)

func (s *Server) failover(r *http.Request) (any, error) {
	var q FailoverRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.Region == "" {
		return nil, fmt.Errorf("%w: a failover names the region that is lost", ErrInvalid)
	}
	if q.By == "" {
		return nil, errNobody
	}
	s.cfg.Logger.Warn("a person asks for a failover", "lost", string(q.Region), "force", q.Force, "by", q.By, "why", q.Why)
	return s.cfg.Backend.Failover(r.Context(), q)
}

type strandedList struct {
	Stranded []Stranded `json:"stranded"`
}

func (s *Server) stranded(r *http.Request) (any, error) {
	list, err := s.cfg.Backend.Stranded(r.Context(), antipode.Region(r.URL.Query().Get("region")))
	return strandedList{list}, err
}

type decisions struct {
	Decisions []Decision `json:"decisions"`
}

func (s *Server) decide(r *http.Request, restore bool) (any, error) {
	q := DecideRequest{}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	q.Restore = restore
	switch {
	case len(q.Dots) == 0:
		return nil, fmt.Errorf("%w: it names no stranded write", ErrInvalid)
	case q.By == "":
		return nil, errNobody
	case q.Force && !restore:
		return nil, fmt.Errorf("%w: discarding needs no force", ErrInvalid)
	}
	out, err := s.cfg.Backend.DecideStranded(r.Context(), q)
	return decisions{out}, err
}

// Switch hands roles over to another region.
func (c *Client) Switch(ctx context.Context, q SwitchRequest) (SwitchStatus, error) {
	var out SwitchStatus
	err := c.call(ctx, http.MethodPost, "/v1/switch", q, &out)
	return out, err
}

// Failover gives the roles of a lost region to others.
func (c *Client) Failover(ctx context.Context, q FailoverRequest) (FailoverResult, error) {
	var out FailoverResult
	err := c.call(ctx, http.MethodPost, "/v1/failover", q, &out)
	return out, err
}

// Failovers lists failovers and leases.
func (c *Client) Failovers(ctx context.Context) (FailoverList, error) {
	var out FailoverList
	err := c.call(ctx, http.MethodGet, "/v1/failovers", nil, &out)
	return out, err
}

// Stranded lists the stranded writes of a region, or of all.
func (c *Client) Stranded(ctx context.Context, region antipode.Region) ([]Stranded, error) {
	path := "/v1/stranded"
	if region != "" {
		path += "?" + url.Values{"region": {string(region)}}.Encode()
	}
	var out strandedList
	err := c.call(ctx, http.MethodGet, path, nil, &out)
	return out.Stranded, err
}

// DecideStranded restores or discards stranded writes.
func (c *Client) DecideStranded(ctx context.Context, q DecideRequest) ([]Decision, error) {
	verb := "discard"
	if q.Restore {
		verb = "restore"
	}
	var out decisions
	err := c.call(ctx, http.MethodPost, "/v1/stranded/"+verb, q, &out)
	return out.Decisions, err
}
