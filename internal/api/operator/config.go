package operator

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
)

// Backend is the region behind the API. All methods may be called concurrently,
// Health at any time, the others once the region is open.
type Backend interface {
	Observer
	Placer
	Links
	Keys
	Joiner
	Roles
}

// Observer tells what there is.
type Observer interface {
	// Health is cheap: it is asked often, and by anyone on this machine.
	Health() Health
	Status(ctx context.Context) (RegionStatus, error)
	// Collisions visits the collisions on record of a table, at most limit of them
	// (0: all), in the order of its keys. It ends with visit's error, if any.
	Collisions(ctx context.Context, table string, limit int, visit func(Collision) error) error
	// Unprotected tells how far the region keeps what its tables promise about the
	// loss of a region.
	Unprotected(ctx context.Context) (ProtectionStatus, error)
}

// Placer knows and changes where items of partitioned tables live. A key is the
// partition key, then the sort key if the table has one, each as plain text:
// a number as written, bytes in base64.
type Placer interface {
	Home(ctx context.Context, table string, key []string) (HomeStatus, error)
	// Move returns once the handoff is durable.
	Move(ctx context.Context, table string, key []string, to antipode.Region) (HomeStatus, error)
}

// Links measures the links to the other regions, and shapes this region's side of
// an emulated one, and the clock of a region whose links are emulated.
type Links interface {
	// Probe measures this many round trips to every other region, one after the
	// other, all regions at once.
	Probe(ctx context.Context, samples int) (ProbeStatus, error)
	CutLink(peer antipode.Region, d Direction) error
	HealLink(peer antipode.Region) error
	// DelayLink sets how long what is sent to the peer takes.
	DelayLink(peer antipode.Region, oneWay time.Duration) error
	// SkewClock sets how far this region's wall clock is ahead of the machine's.
	SkewClock(offset time.Duration) error
}

// Keys keeps the access keys of the client API.
type Keys interface {
	CreateKey(scope access.Scope) (access.Key, error)
	ListKeys() ([]access.Key, error) // without secrets
	RotateKey(id string, grace time.Duration) (access.Key, error)
	RevokeKey(id string) error
}

// Joiner lets new regions in.
type Joiner interface {
	// CreateJoinToken makes a token for one region; an empty name lets the holder
	// choose it. With replace the region may come with a new root in place of the known one.
	CreateJoinToken(ctx context.Context, region antipode.Region, life time.Duration, replace bool) (string, error)
}

// Config says what to serve.
type Config struct {
	// Backend is the region. Required.
	Backend Backend
	// Token must come with every call but /healthz and, from this machine,
	// /metrics. Required.
	Token string
	// Gatherer collects what /metrics shows. Required.
	Gatherer prometheus.Gatherer
	// TLS is needed to listen anywhere but on loopback. Nil: plain HTTP.
	TLS *tls.Config
	// Timeout bounds one call, and each pause of a streamed one. Default 30 s.
	Timeout time.Duration
	// MaxBody bounds a request's body, in bytes. Default 64 KiB.
	MaxBody int64
	// Now reads the wall clock, for deadlines. Required.
	Now func() time.Time
	// Logger takes calls that change something, and faults. Default: discarded.
	Logger *slog.Logger
}

func (c *Config) fill() error {
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxBody <= 0 {
		c.MaxBody = 64 << 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if c.Backend == nil {
		errs = append(errs, errors.New("operator: Config.Backend is nil; give the region"))
	}
	if len(c.Token) < minToken {
		errs = append(errs, errors.New("operator: Config.Token is empty or too short to be a secret; make one with NewToken"))
	}
	if c.Gatherer == nil {
		errs = append(errs, errors.New("operator: Config.Gatherer is nil; give a prometheus registry"))
	}
	if c.Now == nil {
		errs = append(errs, errors.New("operator: Config.Now is nil; give the wall clock"))
	}
	return errors.Join(errs...)
}

// minToken is the length below which a token is surely not one of NewToken's.
const minToken = 16
