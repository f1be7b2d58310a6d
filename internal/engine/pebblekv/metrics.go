package pebblekv

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Collector gives a store's numbers to Prometheus. After the store is closed it
// gives none.
type Collector struct {
	store *Store

	diskBytes, walBytes, written, memTables, cacheBytes, cacheHits, cacheMisses *prometheus.Desc
	compactions, debt, readAmp, levelBytes, fsync, failed                       *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a Collector for the store.
func NewCollector(s *Store) *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("antipode", "engine", name), help, labels, nil)
	}
	return &Collector{
		store:       s,
		diskBytes:   desc("disk_bytes", "Bytes on disk in use by the store."),
		walBytes:    desc("wal_live_bytes", "Bytes in the write-ahead log that are not in tables yet."),
		written:     desc("written_bytes_total", "Bytes written to disk, by what wrote them.", "by"),
		memTables:   desc("memtable_bytes", "Bytes of memory taken by writes that are not in tables yet."),
		cacheBytes:  desc("cache_bytes", "Bytes of memory taken by the block cache."),
		cacheHits:   desc("cache_hits_total", "Blocks found in the cache."),
		cacheMisses: desc("cache_misses_total", "Blocks read from disk."),
		compactions: desc("compactions_total", "Compactions done."),
		debt:        desc("compaction_debt_bytes", "Bytes that compactions have still to move."),
		readAmp:     desc("read_amplification", "Tables that a read looks into at worst."),
		levelBytes:  desc("level_bytes", "Bytes on disk per level.", "level"),
		fsync:       desc("fsync_seconds", "Time that an fsync of the write-ahead log took."),
		failed:      desc("stopped", "1 when a disk failure has stopped all writing."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.store
	if s.enter() != nil {
		return
	}
	defer s.leave()
	m := s.db.Metrics()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	var flushed, compacted uint64
	for i := range m.Levels {
		flushed += m.Levels[i].TableBytesFlushed
		compacted += m.Levels[i].TableBytesCompacted
		gauge(c.levelBytes, float64(m.Levels[i].TablesSize), strconv.Itoa(i))
	}
	gauge(c.diskBytes, float64(m.DiskSpaceUsage()))
	gauge(c.walBytes, float64(m.WAL.Size))
	counter(c.written, float64(m.WAL.BytesWritten), "wal")
	counter(c.written, float64(flushed), "flush")
	counter(c.written, float64(compacted), "compaction")
	gauge(c.memTables, float64(m.MemTable.Size))
	gauge(c.cacheBytes, float64(m.BlockCache.Size))
	counter(c.cacheHits, float64(m.BlockCache.Hits))
	counter(c.cacheMisses, float64(m.BlockCache.Misses))
	counter(c.compactions, float64(m.Compact.Count))
	gauge(c.debt, float64(m.Compact.EstimatedDebt))
	gauge(c.readAmp, float64(m.ReadAmp()))
	stopped := 0.0
	if s.fence.err() != nil {
		stopped = 1
	}
	gauge(c.failed, stopped)
	c.collectFsync(ch, m.LogWriter.FsyncLatency)
}

// collectFsync gives Pebble's histogram, which counts nanoseconds, in seconds.
func (c *Collector) collectFsync(ch chan<- prometheus.Metric, h prometheus.Histogram) {
	var out dto.Metric
	if h == nil || h.Write(&out) != nil {
		return
	}
	buckets := make(map[float64]uint64)
	for _, b := range out.GetHistogram().GetBucket() {
		buckets[b.GetUpperBound()/1e9] = b.GetCumulativeCount()
	}
	hist := out.GetHistogram()
	ch <- prometheus.MustNewConstHistogram(c.fsync, hist.GetSampleCount(), hist.GetSampleSum()/1e9, buckets)
}

// DiskBytes returns what the store takes on disk.
func (s *Store) DiskBytes() uint64 {
	if s.enter() != nil {
		return 0
	}
	defer s.leave()
	return s.db.Metrics().DiskSpaceUsage()
}
