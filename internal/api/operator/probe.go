package operator

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/antipode-io/antipode"
)

// ProbeStatus is what a region measured on its links.
type ProbeStatus struct {
	Region antipode.Region `json:"region"`
	Links  []LinkProbe     `json:"links"` // to every other region, by name
}

// LinkProbe is the round trips to one other region.
type LinkProbe struct {
	To        antipode.Region `json:"to"`
	SamplesMS []float64       `json:"samples_ms"` // in the order they were measured; fewer than asked for when one failed
	// Emulated: the link waits by itself (--wan), DelayMS one way of what is sent.
	Emulated bool    `json:"emulated"`
	DelayMS  float64 `json:"delay_ms,omitempty"`
	Error    string  `json:"error,omitempty"` // why there are no more samples
}

// Bounds of a probe: the most is a quarter of a minute over the longest way there is.
const (
	defaultSamples = 20
	maxSamples     = 50
)

func (s *Server) probe(r *http.Request) (any, error) {
	samples := defaultSamples
	if text := r.URL.Query().Get("samples"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxSamples {
			return nil, fmt.Errorf("%w: samples is %q; a probe takes from 1 to %d", ErrInvalid, text, maxSamples)
		}
		samples = n
	}
	return s.cfg.Backend.Probe(r.Context(), samples)
}

// Probe has the region measure its links.
func (c *Client) Probe(ctx context.Context, samples int) (ProbeStatus, error) {
	var p ProbeStatus
	err := c.call(ctx, http.MethodGet, "/v1/probe?"+url.Values{"samples": {strconv.Itoa(samples)}}.Encode(), nil, &p)
	return p, err
}
