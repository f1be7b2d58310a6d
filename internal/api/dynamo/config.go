package dynamo

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// Control is what the front needs of the group of regions.
type Control interface {
	// State returns the agreed state as this region knows it.
	State() *control.State
	// Propose has the regions agree on a command and returns the state after
	// it, which this region has applied, or why it was refused.
	Propose(ctx context.Context, c control.Command) (*control.State, error)
}

// Config configures a Server.
type Config struct {
	// Region is this region's name, in ARNs and answers.
	Region antipode.Region
	// Aliases are further names of this region that a client may sign for and
	// write in ARNs: the code of its location, such as us-west-2.
	Aliases []string
	// Tables is the data.
	Tables table.Service
	// Control is the catalog.
	Control Control
	// Keys finds access keys. *access.Keyring does.
	Keys access.Keys
	// Now is the wall clock.
	Now func() time.Time

	// Stats tells how many items and bytes a table has here, for DescribeTable,
	// which says 0 where it is nil, as DynamoDB does of new tables.
	Stats func(t *table.TableRef) (items, bytes int64)
	// ExpireEvery is the time between two searches for items to expire. Default 10 s.
	ExpireEvery time.Duration
	// ControlTimeout is how long a change of the catalog waits for the regions to
	// agree on it. Default 5 s.
	ControlTimeout time.Duration
	// TLS makes Serve speak TLS. Nil is plain HTTP, for loopback only.
	TLS *tls.Config
	// ReadTimeout is the time that a client has for sending one request. Default 30 s.
	ReadTimeout time.Duration
	// WriteTimeout is the time that a client has for taking one answer. Default 30 s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Default 120 s.
	IdleTimeout time.Duration
	// MaxConnections bounds the connections served at a time. Default 16384.
	MaxConnections int
	// MaxHeader bounds a request's headers in bytes; each connection has a
	// buffer of that size. Default 16 KiB.
	MaxHeader int

	// Registerer takes the metrics. Nil keeps them unseen.
	Registerer prometheus.Registerer
	// Logger takes what no client can be told. Nil discards it.
	Logger *slog.Logger
}

// Validate says what is missing and fills in defaults.
func (c *Config) Validate() error {
	switch {
	case c.Region == "":
		return errors.New("dynamo: Config.Region is empty; give the region's name")
	case c.Tables == nil:
		return errors.New("dynamo: Config.Tables is nil; give the region's tables")
	case c.Control == nil:
		return errors.New("dynamo: Config.Control is nil; give the region's view of the control group")
	case c.Keys == nil:
		return errors.New("dynamo: Config.Keys is nil; give the region's access keys")
	case c.Now == nil:
		return errors.New("dynamo: Config.Now is nil; give a clock")
	}
	if c.ControlTimeout <= 0 {
		c.ControlTimeout = 5 * time.Second
	}
	if c.ExpireEvery <= 0 {
		c.ExpireEvery = 10 * time.Second
	}
	if c.ReadTimeout <= 0 {
		c.ReadTimeout = 30 * time.Second
	}
	if c.WriteTimeout <= 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 120 * time.Second
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 16384
	}
	if c.MaxHeader <= 0 {
		c.MaxHeader = 16 << 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
