package table_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
	"github.com/antipode-io/antipode/internal/hlc"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// benchTables opens a region's tables on the disk, with one table per write mode.
func benchTables(b *testing.B) (*table.Tables, *control.State) {
	b.Helper()
	store, err := pebblekv.Open(pebblekv.Config{FS: vfs.Default, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	log, err := journal.Open(journal.Config{Store: store, Origin: antipode.Origin{Region: oregon, Incarnation: 1}})
	if err != nil {
		b.Fatal(err)
	}
	clock, err := hlc.New(hlc.Config{})
	if err != nil {
		b.Fatal(err)
	}
	state := control.NewState()
	for i, c := range []control.Command{
		{PutRegion: &control.Region{Name: oregon}},
		{CreateTable: &control.Table{Name: "local", Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Replicas: []antipode.Region{oregon}}},
		{CreateTable: &control.Table{Name: "global", Writes: antipode.WriteGlobal, Writer: oregon, Replicas: []antipode.Region{oregon}}},
		{CreateTable: &control.Table{Name: "partitioned", Writes: antipode.WritePartitioned, Replicas: []antipode.Region{oregon}}},
	} {
		if state, err = control.Apply(state, uint64(i+1), c); err != nil {
			b.Fatal(err)
		}
	}
	return table.New(table.Config{
		Self: oregon, Store: store, Journal: log, Clock: clock, Catalog: func() *control.State { return state },
	}), state
}

var body = put(fmt.Sprintf(`put {"id":{"S":"k"},"body":{"S":"%0230d"}}`, 1))

// BenchmarkWrite commits durable writes of 256 bytes from 64 clients.
func BenchmarkWrite(b *testing.B) {
	for _, name := range []string{"local", "global", "partitioned"} {
		b.Run(name, func(b *testing.B) {
			ts, state := benchTables(b)
			var n atomic.Int64
			b.SetParallelism(32)
			b.ReportAllocs()
			start := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := fmt.Appendf(nil, "key%d", n.Add(1)%100_000)
					_, err := ts.Write(context.Background(), table.WriteRequest{
						Table: state.Tables[name], Key: table.Key{Partition: key}, Op: body,
					})
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "writes/s")
		})
	}
}

// BenchmarkGet reads items of 256 bytes.
func BenchmarkGet(b *testing.B) {
	ts, state := benchTables(b)
	for i := range 1000 {
		_, err := ts.Write(context.Background(), table.WriteRequest{
			Table: state.Tables["global"], Key: table.Key{Partition: fmt.Append(nil, "key", i)}, Op: body,
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	var dst []byte
	for i := range b.N {
		var err error
		dst, err = ts.Get(context.Background(), state.Tables["global"], table.Key{Partition: fmt.Append(nil, "key", i%1000)}, true, dst[:0])
		if err != nil || len(dst) == 0 {
			b.Fatal(err)
		}
	}
}
