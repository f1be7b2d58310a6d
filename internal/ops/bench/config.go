package bench

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
)

// Workload says what the clients do.
type Workload string

// The workloads.
const (
	Write Workload = "write" // PutItem only
	Read  Workload = "read"  // GetItem only, eventually consistent
	Mix   Workload = "mix"   // one half each, in random order
)

// Workloads lists the workloads.
func Workloads() []Workload { return []Workload{Write, Read, Mix} }

// Endpoint is one region's client API, or any other server of the DynamoDB API.
type Endpoint struct {
	Region        antipode.Region // how reports call it
	URL           string          // http://HOST:PORT or https://HOST:PORT
	AccessKey     string
	Secret        string
	SigningRegion string      // the region in the signature's scope
	TLS           *tls.Config // for https; default: the system's roots
	Observe       bool        // gets no load, only the reads that measure lag
}

// Config says what to run.
type Config struct {
	Endpoints []Endpoint // at least one without Observe; clients are spread over those
	Table     string     // exists already at every endpoint
	Clients   int        // concurrent clients, a connection each; default 64
	Workload  Workload   // default Write
	ItemBytes int        // size of an item as DynamoDB counts it, attribute names included; default 256
	Keys      int        // how many keys the clients write and read, uniformly; default 100,000
	KeyPrefix string     // before the number in keys of type S and B; default "bench-"
	Fill      bool       // write every key once before the warm-up
	Seed      uint64     // of the choice of keys; the same for the same seed

	Rate     float64       // operations per second over all clients (open loop); 0: as fast as answers come (closed loop)
	Duration time.Duration // of the measured part; default 10 s
	Warmup   time.Duration // before it, not counted
	Timeout  time.Duration // of one operation, give or take an eighth; default 10 s

	LagSamples int           // writes to follow to the other endpoints over Duration; 0: none
	LagTimeout time.Duration // a write not seen by then counts as unseen; default 30 s

	// Fsync writes a little and makes it durable, and says how long that took;
	// called by one goroutine at a time, 25 times a second, for the result's
	// Fsync figures. NewFsyncProbe makes one. Default: none.
	Fsync func() (time.Duration, error)
	// Progress is called once a second, by one goroutine. Default: none.
	Progress func(Snapshot)
	// Now is the clock: of latencies, so it should be monotonic, and of
	// signatures. Required.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.Clients = orDefault(c.Clients, 64)
	c.Workload = orDefault(c.Workload, Write)
	c.ItemBytes = orDefault(c.ItemBytes, 256)
	c.Keys = orDefault(c.Keys, 100_000)
	c.KeyPrefix = orDefault(c.KeyPrefix, "bench-")
	c.Duration = orDefault(c.Duration, 10*time.Second)
	c.Timeout = orDefault(c.Timeout, 10*time.Second)
	c.LagTimeout = orDefault(c.LagTimeout, 30*time.Second)
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// maxItemBytes is DynamoDB's limit.
const maxItemBytes = 400 << 10

// Validate says what is wrong with the configuration and what to change.
func (c Config) Validate() error {
	switch {
	case c.Now == nil:
		return fmt.Errorf("%w: no clock; set Now", ErrInvalid)
	case c.Table == "":
		return fmt.Errorf("%w: no table; name one that exists", ErrInvalid)
	case !slices.Contains(Workloads(), c.Workload):
		return fmt.Errorf("%w: no workload is called %q; take write, read or mix", ErrInvalid, c.Workload)
	case c.Clients < 0, c.Keys < 0, c.Rate < 0, c.Duration < 0, c.Warmup < 0, c.Timeout < 0, c.LagSamples < 0, c.LagTimeout < 0:
		return fmt.Errorf("%w: clients, keys, rate, durations and samples can't be negative", ErrInvalid)
	case c.ItemBytes < 0 || c.ItemBytes > maxItemBytes:
		return fmt.Errorf("%w: items of %d bytes; DynamoDB's limit is %d", ErrInvalid, c.ItemBytes, maxItemBytes)
	}
	driven := 0
	for _, e := range c.Endpoints {
		if err := e.validate(); err != nil {
			return err
		}
		if !e.Observe {
			driven++
		}
	}
	if driven == 0 {
		return fmt.Errorf("%w: no endpoint to drive; give at least one that is not only observed", ErrInvalid)
	}
	if c.LagSamples > 0 && len(c.Endpoints) < 2 {
		return fmt.Errorf("%w: lag is seen from another region; give a second endpoint or no lag samples", ErrInvalid)
	}
	return nil
}

func (e Endpoint) validate() error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%w: endpoint %q; want http://HOST:PORT or https://HOST:PORT", ErrInvalid, e.URL)
	}
	if e.AccessKey == "" || e.Secret == "" || e.SigningRegion == "" {
		return fmt.Errorf("%w: endpoint %s needs an access key, its secret and a region to sign for", ErrInvalid, e.URL)
	}
	return nil
}
