package group

import "github.com/prometheus/client_golang/prometheus"

// Collector gives a voter's numbers to Prometheus.
type Collector struct {
	group                                            *Group
	leads, hasLeader, term, applied, reachable, size *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a Collector for the group.
func NewCollector(g *Group) *Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("antipode", "control", name), help, nil, nil)
	}
	return &Collector{
		group:     g,
		leads:     desc("leads", "1 when this region leads the control group."),
		hasLeader: desc("has_leader", "1 when this region knows of a leader."),
		term:      desc("term", "Term of the control group, as known here."),
		applied:   desc("applied_index", "Index of the last agreed entry in this region's copy."),
		reachable: desc("voters_reachable", "Voters heard of lately, this one included."),
		size:      desc("voters", "Voters of the control group."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.group.Status()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge(c.leads, flag(s.Leader == s.Self))
	gauge(c.hasLeader, flag(s.Leader != ""))
	gauge(c.term, float64(s.Term))
	gauge(c.applied, float64(s.Applied))
	gauge(c.reachable, float64(len(s.Reachable)))
	gauge(c.size, float64(len(s.Voters)))
}
