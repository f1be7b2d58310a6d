package drill

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", path, diff)
	}
}

// recordOf makes a record of a scene, as conclude does.
func recordOf(t *testing.T, kind string, spoil func(*scene)) *Record {
	t.Helper()
	s := newScene(t, kind)
	spoil(s)
	p := newPatient(t)
	p.cfg.Kind, p.cfg.For, p.cfg.Rate, p.cfg.FS = kind, 10*time.Second, 100, vfs.NewMem()
	if err := p.cfg.FS.MkdirAll(p.cfg.Dir, dirMode); err != nil {
		t.Fatal(err)
	}
	p.cfg.Now = func() time.Time { return time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC) }
	p.cfg.Progress = func(Event) {}
	r := newRun(p.cfg)
	r.event(EventFault, "%s", "oregon is killed (process 7, SIGKILL)")
	r.load.errors[mumbai].kinds = map[string]ErrorCount{"InternalServerError": {7, `no <b>lease</b>`}}
	rec, err := r.conclude(s.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := History(p.cfg.FS, p.cfg.Dir)
	if err != nil || len(kept) != 1 {
		t.Fatalf("history: %d records, %v", len(kept), err)
	}
	a, _ := json.Marshal(rec)
	b, _ := json.Marshal(kept[0])
	if diff := cmp.Diff(string(a), string(b)); diff != "" {
		t.Errorf("the record was kept differently: -made +kept\n%s", diff)
	}
	return kept[0]
}

func spoilt(s *scene) {
	s.lose(s.last(global, oregon, Receipt, faultAt))
	s.Missing[s.last(rpo0, oregon, Receipt, faultAt).Value] = true
	s.RTO = 2 * time.Second
}

func TestTextReport(t *testing.T) {
	for _, tc := range []struct {
		golden, kind string
		spoil        func(*scene)
	}{
		{"testdata/passed.txt", RegionDown, func(*scene) {}},
		{"testdata/failed.txt", RegionDown, spoilt},
		{"testdata/link-cut.txt", LinkCut, func(*scene) {}},
	} {
		var out bytes.Buffer
		if err := recordOf(t, tc.kind, tc.spoil).WriteText(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, tc.golden, out.String())
		if lines := strings.Count(out.String(), "\n"); lines > 40 {
			t.Errorf("%s: %d lines; it shall fit a screen", tc.golden, lines)
		}
	}
}

func TestPage(t *testing.T) {
	for _, kind := range Kinds() {
		var out bytes.Buffer
		if err := recordOf(t, kind.Name, spoilt).WriteHTML(&out); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for _, want := range []string{"<title>FAILED: " + kind.Name + " on oregon</title>", "prefers-color-scheme: dark", "no &lt;b&gt;lease&lt;/b&gt;", "<svg"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the page lacks %q", kind.Name, want)
			}
		}
		if bad := regexp.MustCompile(`(?i)(src|href)=|@import|url\(|<script|NaN|ZgotmplZ|%!`).FindString(text); bad != "" {
			t.Errorf("%s: the page has %q", kind.Name, bad)
		}
	}
}

func TestHistoryOfNothing(t *testing.T) {
	if records, err := History(vfs.NewMem(), "drills"); err != nil || len(records) != 0 {
		t.Errorf("History = %v, %v", records, err)
	}
}
