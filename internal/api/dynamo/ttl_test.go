package dynamo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/data/table"
)

func TestTimeToLive(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	set := func(attribute, enabled string) string {
		return `{"TableName":"carts","TimeToLiveSpecification":{"AttributeName":` + attribute + `,"Enabled":` + enabled + `}}`
	}
	const one = "ValidationException: 1 validation error detected: "
	f.run([]step{
		{"UpdateTimeToLive", `{"TableName":"carts"}`, one + `Value null at 'timeToLiveSpecification' failed to satisfy constraint: Member must not be null`},
		{"UpdateTimeToLive", set(`""`, `true`), one + `Value '' at 'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must have length greater than or equal to 1`},
		{"UpdateTimeToLive", set(`null`, `null`), "ValidationException: 2 validation errors detected: Value null at 'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must not be null; Value null at 'timeToLiveSpecification.enabled' failed to satisfy constraint: Member must not be null"},
		{"UpdateTimeToLive", strings.Replace(set(`"ttl"`, `true`), "carts", "nothere", 1), "ResourceNotFoundException: Requested resource not found: Table: nothere not found"},
		{"UpdateTimeToLive", set(`"ttl"`, `false`), "ValidationException: TimeToLive is already disabled"},
		{"UpdateTimeToLive", set(`"ttl"`, `true`), `{"TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":true}}`},
		{"UpdateTimeToLive", set(`"ttl"`, `true`), "ValidationException: TimeToLive is already enabled"},
		{"UpdateTimeToLive", set(`"x"`, `true`), "ValidationException: TimeToLive is active on a different AttributeName: current AttributeName is ttl"},
		{"DescribeTimeToLive", `{"TableName":"carts"}`, `{"TimeToLiveDescription":{"AttributeName":"ttl","TimeToLiveStatus":"ENABLED"}}`},
		{"UpdateTimeToLive", set(`"ttl"`, `false`), `{"TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":false}}`},
		{"DescribeTimeToLive", `{"TableName":"carts"}`, `{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}}`},
	})
}

// TestExpire deletes what is due and nothing else.
func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		const name = `t\"tl`
		f.ok("CreateTable", createTable("lines", "id", "n", ""))
		now := time.Now().Unix()
		put := func(id, rest string) {
			f.ok("PutItem", `{"TableName":"lines","Item":{"id":{"S":"`+id+`"},"n":{"N":"-1.5"}`+rest+`}}`)
		}
		at := func(seconds int64) string { return fmt.Sprintf(`,"%s":{"N":"%d"}`, name, seconds) }
		for i := range 2000 {
			put(fmt.Sprintf("due %d", i), at(now-int64(i)))
		}
		put("due with a nested one to come", `,"a":{"M":{"`+name+`":{"N":"99999999999"}}}`+at(now))
		put("kept, no time", "")
		put("kept, a minute to come", at(now+60))
		put("kept, a string", `,"`+name+`":{"S":"1"}`)
		put("kept, nested", `,"a":{"M":{"`+name+`":{"N":"`+fmt.Sprint(now-5)+`"}}}`)
		put("kept, too old", at(now-6*365*24*3600))
		put("kept, milliseconds", at(now*1000))
		f.ok("UpdateTimeToLive", `{"TableName":"lines","TimeToLiveSpecification":{"AttributeName":"`+name+`","Enabled":true}}`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { f.server.Expire(ctx); close(ended) }()
		wantLeft := func(want ...string) {
			t.Helper()
			var got []string
			for _, i := range f.page("Scan", `{"TableName":"lines"}`).Items {
				got = append(got, i["id"]["S"].(string))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("left are %q, want %q", got, want)
			}
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		kept := []string{"kept, a minute to come", "kept, a string", "kept, milliseconds", "kept, nested", "kept, no time", "kept, too old"}
		wantLeft(kept...)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantLeft(kept[1:]...)
		cancel()
		<-ended
	})
}

// TestExpireLeavesWhatChanged has an item written to between the look at it and its delete.
func TestExpireLeavesWhatChanged(t *testing.T) {
	f := newFixture(t)
	f.ok("CreateTable", createTable("carts", "id", "", ""))
	f.ok("PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"},"ttl":{"N":"`+fmt.Sprint(time.Now().Unix()-5)+`"}}}`)
	tb, err := f.tables.Table("carts")
	if err != nil {
		t.Fatal(err)
	}
	_, due, err := f.server.findExpired(t.Context(), tb, "ttl", nil)
	if err != nil || len(due) != 1 {
		t.Fatalf("%v %v", due, err)
	}
	f.ok("PutItem", `{"TableName":"carts","Item":{"id":{"S":"a"},"ttl":{"N":"99999999999"}}}`)
	if _, err := f.tables.Write(t.Context(), due[0].req); err == nil {
		t.Error("an item that was given more time is deleted")
	}
	if err := f.server.expireTable(t.Context(), tb, "ttl"); err != nil {
		t.Error(err)
	}
	f.run([]step{{"GetItem", `{"TableName":"carts","Key":{"id":{"S":"a"}}}`, `{"Item":{"id":{"S":"a"},"ttl":{"N":"99999999999"}}}`}})
}

// TestOneRegionLooksAfter finds exactly one region that deletes an item, and about
// as many items for each.
func TestOneRegionLooksAfter(t *testing.T) {
	regions := []antipode.Region{"mumbai", "oregon", "paris"}
	for _, mode := range antipode.WriteModes() {
		tb := &table.TableRef{Writes: mode, Writer: "mumbai", Replicas: regions}
		share := map[antipode.Region]int{}
		for i := range 3000 {
			n := 0
			for _, r := range regions {
				if (&Server{cfg: Config{Region: r}}).looksAfter(tb, table.Key{Partition: []byte(fmt.Sprint(i)), Sort: []byte("s")}) {
					share[r]++
					n++
				}
			}
			if n != 1 {
				t.Fatalf("%s: %d regions look after item %d", mode, n, i)
			}
		}
		for _, r := range regions {
			if mode != antipode.WriteGlobal && (share[r] < 800 || share[r] > 1200) || mode == antipode.WriteGlobal && share["mumbai"] != 3000 {
				t.Errorf("%s: %v", mode, share)
			}
		}
	}
}
