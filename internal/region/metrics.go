package region

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/antipode-io/antipode/internal/control"
)

func sortedTables(s *control.State) []*control.Table {
	return slices.SortedFunc(maps.Values(s.Tables), func(a, b *control.Table) int { return cmp.Compare(a.Name, b.Name) })
}

// collector tells what the region's replication is doing.
type collector struct {
	r                      *Region
	d                      *data
	lag, waiting, frontier *prometheus.Desc
	connected, rtt         *prometheus.Desc
}

func newCollector(r *Region, d *data) *collector {
	return &collector{
		r: r, d: d,
		lag: prometheus.NewDesc("antipode_replication_lag_seconds",
			"Age of the oldest write of a region that is not applied here.", []string{"origin"}, nil),
		waiting: prometheus.NewDesc("antipode_journal_waiting_bytes",
			"Entries received that wait for others before they can be applied.", nil, nil),
		frontier: prometheus.NewDesc("antipode_journal_applied_total",
			"Entries of an origin applied here, over all shards.", []string{"origin"}, nil),
		connected: prometheus.NewDesc("antipode_link_connected",
			"Whether a region is connected.", []string{"peer"}, nil),
		rtt: prometheus.NewDesc("antipode_link_rtt_seconds",
			"Smoothed round trip to a region.", []string{"peer"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for origin, lag := range c.d.ship.Lag() {
		gauge(c.lag, lag.Seconds(), string(origin))
	}
	gauge(c.waiting, float64(c.d.ship.Waiting()))
	applied := make(map[string]uint64)
	for _, id := range c.d.journal.Shards() {
		for _, m := range c.d.journal.Shard(id).Applied() {
			applied[m.Origin.String()] += m.Seq
		}
	}
	for origin, n := range applied {
		ch <- prometheus.MustNewConstMetric(c.frontier, prometheus.CounterValue, float64(n), origin)
	}
	for peer, p := range c.r.mesh.Stats().Peers {
		up := 0.0
		if p.Connected {
			up = 1
		}
		gauge(c.connected, up, string(peer))
		gauge(c.rtt, p.RTT.Seconds(), string(peer))
	}
}
