package dynamo

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	byOp     map[*operation]opMetrics // made once: reads need no lock
	expired  prometheus.Counter
}

type opMetrics struct {
	ok      prometheus.Counter
	seconds prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, ops map[string]*operation) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "antipode_dynamo_requests_total",
			Help: "DynamoDB requests answered, by operation and error code (OK for none).",
		}, []string{"operation", "code"}),
		byOp: map[*operation]opMetrics{},
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "antipode_dynamo_expired_total",
			Help: "Items that this region deleted because their time to live had come.",
		}),
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "antipode_dynamo_request_seconds",
		Help:    "Time from a DynamoDB request that was read to its answer, by operation.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
	}, []string{"operation"})
	for name, op := range ops {
		m.byOp[op] = opMetrics{m.requests.WithLabelValues(name, "OK"), seconds.WithLabelValues(name)}
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, seconds, m.expired} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the DynamoDB API: %w", err)
		}
	}
	return m, nil
}

// observe counts an answered request. The code is one of a fixed set.
func (m *metrics) observe(op *operation, code string, took time.Duration) {
	o, ok := m.byOp[op]
	if !ok {
		m.requests.WithLabelValues("unknown", code).Inc()
		return
	}
	o.seconds.Observe(took.Seconds())
	if code == "" {
		o.ok.Inc()
		return
	}
	m.requests.WithLabelValues(op.name, code).Inc()
}
