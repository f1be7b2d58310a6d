package access

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 23, 2, 39, 28, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openRing(t *testing.T, fs vfs.FS, path string, c *clock) *Keyring {
	t.Helper()
	r, err := Open(Config{FS: fs, Path: path, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeysSurvive(t *testing.T) {
	fs, c := vfs.NewCrashableMem(), newClock()
	r := openRing(t, fs, "keys.json", c)
	k, err := r.Create(Scope{ReadOnly: true, Tables: []string{"carts"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.ID) != 20 || !strings.HasPrefix(k.ID, "AKIA") || len(k.Secret) != 40 {
		t.Errorf("key %q with a secret of %d characters, want AKIA and 20, 40", k.ID, len(k.Secret))
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	again := openRing(t, crashed, "keys.json", c)
	got, ok := again.Lookup(k.ID)
	if !ok {
		t.Fatal("key is lost by a crash")
	}
	if d := cmp.Diff(k, got); d != "" {
		t.Error(d)
	}
	if l := again.List(); len(l) != 1 || l[0].Secret != "" || l[0].ID != k.ID {
		t.Errorf("list %+v: want the one key without its secret", l)
	}
}

func TestKeyFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if _, err := openRing(t, vfs.Default, path, newClock()).Create(Scope{}); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", fi.Mode().Perm())
	}
}

func TestRotate(t *testing.T) {
	c := newClock()
	r := openRing(t, vfs.NewMem(), "keys.json", c)
	old, _ := r.Create(Scope{Tables: []string{"carts"}})
	next, err := r.Rotate(old.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if next.ID == old.ID || next.Secret == old.Secret {
		t.Error("the successor repeats the old key")
	}
	if d := cmp.Diff(old.Scope, next.Scope); d != "" {
		t.Error(d)
	}
	if _, ok := r.Lookup(old.ID); !ok {
		t.Error("the old key must stay valid for the grace time")
	}
	c.add(time.Hour)
	if _, ok := r.Lookup(old.ID); ok {
		t.Error("the old key must end after the grace time")
	}
	if _, err := r.Rotate(old.ID, time.Hour); !errors.Is(err, ErrEnded) {
		t.Errorf("rotating an ended key: %v, want ErrEnded", err)
	}
	last, err := r.Rotate(next.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Lookup(next.ID); ok {
		t.Error("without a grace time the old key must end at once")
	}
	if err := r.Revoke(last.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(last.ID); err != nil {
		t.Errorf("revoking again: %v", err)
	}
	if _, ok := r.Lookup(last.ID); ok {
		t.Error("a revoked key is valid")
	}
	if err := r.Revoke("AKIANOSUCHKEY"); !errors.Is(err, ErrNoKey) {
		t.Errorf("revoking no key: %v, want ErrNoKey", err)
	}
}

func TestReloadSeesOtherProcess(t *testing.T) {
	fs, c := vfs.NewMem(), newClock()
	r := openRing(t, fs, "keys.json", c)
	k, _ := openRing(t, fs, "keys.json", c).Create(Scope{})
	if _, ok := r.Lookup(k.ID); ok {
		t.Fatal("key is there before Reload")
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Lookup(k.ID); !ok {
		t.Error("key is missing after Reload")
	}
}

// TestKeyFileFormat holds the bytes that are on disks already.
func TestKeyFileFormat(t *testing.T) {
	const golden = `{
  "version": 1,
  "keys": [
    {
      "id": "AKIAAAAAAAAAAAAAAAAA",
      "secret": "s3cret",
      "scope": {
        "read_only": true,
        "tables": [
          "carts"
        ]
      },
      "created": "2026-11-23T02:39:28Z",
      "expires": "2026-11-24T02:39:28Z",
      "replaced_by": "AKIABBBBBBBBBBBBBBBB"
    }
  ]
}
`
	fs, c := vfs.NewMem(), newClock()
	r := openRing(t, fs, "keys.json", c)
	want := Key{
		ID: "AKIAAAAAAAAAAAAAAAAA", Secret: "s3cret", Scope: Scope{ReadOnly: true, Tables: []string{"carts"}},
		Created: c.now(), Expires: c.now().Add(24 * time.Hour), ReplacedBy: "AKIABBBBBBBBBBBBBBBB",
	}
	if err := r.write(map[string]Key{want.ID: want}); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open("keys.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(golden, string(b)); d != "" {
		t.Error(d)
	}
	if got, ok := openRing(t, fs, "keys.json", c).Lookup(want.ID); !ok || !cmp.Equal(got, want) {
		t.Errorf("read back %+v", got)
	}
}

func TestBadFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"not json":   {"}", ErrCorrupt},
		"newer":      {`{"version":7}`, ErrVersion},
		"no secret":  {`{"version":1,"keys":[{"id":"a"}]}`, ErrCorrupt},
		"same twice": {`{"version":1,"keys":[{"id":"a","secret":"s"},{"id":"a","secret":"t"}]}`, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeKeys([]byte(tc.text)); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("empty Config accepted")
	}
	if _, err := NewVerifier(VerifierConfig{}); err == nil {
		t.Error("empty VerifierConfig accepted")
	}
}

func TestScope(t *testing.T) {
	if !(Scope{}).AllowsTable("any") {
		t.Error("the zero Scope must allow all tables")
	}
	s := Scope{Tables: []string{"carts"}}
	if !s.AllowsTable("carts") || s.AllowsTable("users") {
		t.Error("a scope of tables must allow those and no others")
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"keys":[{"id":"AKIA","secret":"s","scope":{"tables":["t"]},"created":"2026-11-23T00:00:00Z"}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := decodeKeys(b)
		if err == nil && keys == nil {
			t.Error("no keys and no error")
		}
	})
}
