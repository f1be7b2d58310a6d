package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

func mustNew(t testing.TB, region antipode.Region, now time.Time) *Identity {
	t.Helper()
	id, err := New(region, now)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustTrust(t testing.TB, ids ...*Identity) Trust {
	t.Helper()
	roots := map[antipode.Region]string{}
	for _, id := range ids {
		roots[id.Region()] = id.RootPEM()
	}
	trust, err := NewTrust(roots)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// leafAt returns the chain that a region presents at a time.
func leafAt(t testing.TB, id *Identity, now time.Time) []*x509.Certificate {
	t.Helper()
	cert, err := id.Certificate(now)
	if err != nil {
		t.Fatal(err)
	}
	return parseChain(t, cert)
}

func parseChain(t testing.TB, cert *tls.Certificate) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

func TestVerify(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	oregon, mumbai := mustNew(t, "oregon", now), mustNew(t, "mumbai", now)
	impostor := mustNew(t, "mumbai", now)
	// Mumbai's root signs a leaf that says oregon.
	forger := &Identity{region: "oregon", root: mumbai.root, key: mumbai.key}
	trust := mustTrust(t, oregon, mumbai)
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		at    time.Time
		want  string // in the error; empty: it is trusted
	}{
		"good":                         {leafAt(t, oregon, now), now, ""},
		"clock 4 minutes behind":       {leafAt(t, oregon, now), now.Add(-4 * time.Minute), ""},
		"clock 6 minutes behind":       {leafAt(t, oregon, now), now.Add(-6 * time.Minute), "not yet valid"},
		"expired":                      {leafAt(t, oregon, now), now.Add(25 * time.Hour), "expired"},
		"region unknown":               {leafAt(t, mustNew(t, "paris", now), now), now, "paris"},
		"same name, other root":        {leafAt(t, impostor, now), now, "unknown authority"},
		"oregon, signed by mumbai":     {leafAt(t, forger, now), now, "unknown authority"},
		"the root itself":              {[]*x509.Certificate{oregon.root}, now, "not for a link"},
		"nothing presented":            {nil, now, "no certificate"},
		"impostor with the right root": {append(leafAt(t, impostor, now)[:1], mumbai.root), now, "unknown authority"},
	} {
		region, err := trust.Verify(test.chain, test.at)
		if test.want == "" && (err != nil || region != "oregon") {
			t.Errorf("%s: %s, %v", name, region, err)
		}
		if test.want != "" && (!errors.Is(err, ErrNotTrusted) || !strings.Contains(err.Error(), test.want) || region != "") {
			t.Errorf("%s: %q, %v", name, region, err)
		}
	}
}

func TestTrustIsImmutable(t *testing.T) {
	now := time.Now()
	oregon, mumbai := mustNew(t, "oregon", now), mustNew(t, "mumbai", now)
	var none Trust
	one, err := none.With("oregon", oregon.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	// While a root is replaced, both count.
	next := mustNew(t, "oregon", now)
	both, err := one.With("oregon", oregon.RootPEM()+next.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []*Identity{oregon, next} {
		if _, err := both.Verify(leafAt(t, id, now), now); err != nil {
			t.Error(err)
		}
	}
	if _, err := one.Verify(leafAt(t, next, now), now); err == nil {
		t.Error("With changed what it was called on")
	}
	again, err := NewTrust(both.Roots())
	if err != nil || cmp.Diff(again.Roots(), both.Roots()) != "" {
		t.Errorf("round trip: %v", err)
	}
	if left := both.Without("oregon"); left.Has("oregon") || !both.Has("oregon") || none.Has("oregon") {
		t.Error("Without is wrong")
	}
	leaf := certificatePEM(leafAt(t, mumbai, now)[0])
	for _, roots := range []map[antipode.Region]string{{"mumbai": leaf}, {"mumbai": ""}, {"mumbai": "x"}, {"Not A Name": oregon.RootPEM()}} {
		if _, err := NewTrust(roots); err == nil {
			t.Errorf("accepted %v", roots)
		}
	}
}

func TestRenewal(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	id := mustNew(t, "oregon", now)
	first, err := id.Certificate(now)
	if err != nil {
		t.Fatal(err)
	}
	for after, renewed := range map[time.Duration]bool{15 * time.Hour: false, 17 * time.Hour: true} {
		cert, err := id.Certificate(now.Add(after))
		if err != nil || (cert != first) != renewed {
			t.Errorf("after %v: renewed %v, %v", after, cert != first, err)
		}
		id.leaf = first
	}
	if _, err := id.Certificate(now.Add(11 * 365 * 24 * time.Hour)); err == nil {
		t.Error("issued a leaf after the end of the root")
	}
}

func TestStore(t *testing.T) {
	now := time.Now()
	disk := vfs.NewCrashableMem()
	if _, err := LoadCA(disk, "data/id"); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("load nothing: %v", err)
	}
	made, err := InitCA(disk, "data/id", "oregon", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := InitCA(disk, "data/id", "oregon", now); !errors.Is(err, ErrExists) {
		t.Errorf("init twice: %v", err)
	}
	loaded, err := LoadCA(disk, "data/id")
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Region() != "oregon" || loaded.RootPEM() != made.RootPEM() || loaded.Pin() != made.Pin() {
		t.Error("read back something else")
	}
	if _, err := mustTrust(t, made).Verify(leafAt(t, loaded, now), now); err != nil {
		t.Error(err)
	}
	if _, err := InitCA(disk, "x", "Not A Region", now); err == nil {
		t.Error("accepted a bad name")
	}

	trust := mustTrust(t, made, mustNew(t, "mumbai", now))
	if _, err := LoadTrust(disk, "data/id"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load no trust: %v", err)
	}
	if err := SaveTrust(disk, "data/id", trust); err != nil {
		t.Fatal(err)
	}
	again, err := LoadTrust(disk, "data/id")
	if err != nil || cmp.Diff(again.Roots(), trust.Roots()) != "" {
		t.Errorf("trust: %v", err)
	}
	other, err := InitCA(disk, "other", "oregon", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSecret(disk, "data/id", rootFile, []byte(other.RootPEM())); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCA(disk, "data/id"); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("key of another root: %v", err)
	}
}

func TestFileModes(t *testing.T) {
	dir := t.TempDir()
	if _, err := InitCA(vfs.Default, dir+"/id", "oregon", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{rootFile, keyFile} {
		info, err := os.Stat(dir + "/id/" + name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	disk := vfs.NewMem()
	id := mustNew(t, "oregon", now)
	tokens := NewTokens(disk, "tokens")
	if _, _, err := tokens.Redeem([SecretSize]byte{}, "mumbai", now); !errors.Is(err, ErrToken) {
		t.Errorf("no tokens at all: %v", err)
	}
	token, err := tokens.Create(id, Invitation{Region: "mumbai", Expires: now.Add(time.Hour), Replace: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseToken(" " + token.Text() + "\n")
	if err != nil || parsed != token {
		t.Fatalf("round trip: %v", err)
	}
	for _, shown := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v", token, token, token), token.LogValue().String()} {
		if strings.Contains(shown, token.Text()[len(tokenPrefix)+44:]) || strings.Contains(shown, fmt.Sprintf("%d, %d", token.Secret[0], token.Secret[1])) {
			t.Errorf("the secret shows in %q", shown)
		}
	}
	names, err := disk.List("tokens")
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if _, _, err := tokens.Redeem(token.Secret, "paris", now); !errors.Is(err, ErrToken) {
		t.Errorf("wrong region: %v", err)
	}
	inv, restore, err := tokens.Redeem(token.Secret, "mumbai", now)
	if err != nil || inv.Region != "mumbai" || !inv.Replace {
		t.Fatalf("%+v, %v", inv, err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	var used atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := tokens.Redeem(token.Secret, "mumbai", now.Add(59*time.Minute)); err == nil {
				used.Add(1)
			} else if !errors.Is(err, ErrToken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if used.Load() != 1 {
		t.Errorf("used %d times, want once", used.Load())
	}
	late, err := tokens.Create(id, Invitation{Expires: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokens.Redeem(late.Secret, "mumbai", now.Add(time.Hour)); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %v", err)
	}
	if _, err := tokens.Create(id, Invitation{Expires: now}, now); err == nil {
		t.Error("made a token without life")
	}
	if _, err := tokens.Create(id, Invitation{Expires: now.Add(time.Hour), Replace: true}, now); err == nil {
		t.Error("made a token with which any region can be replaced")
	}
}

func TestVerifyPinned(t *testing.T) {
	now := time.Now()
	oregon, other := mustNew(t, "oregon", now), mustNew(t, "oregon", now)
	region, trust, err := VerifyPinned(leafAt(t, oregon, now), oregon.Pin(), now)
	if err != nil || region != "oregon" || trust.PEM("oregon") != oregon.RootPEM() {
		t.Errorf("%s, %v", region, err)
	}
	// In between: the right root is shown, but the leaf is somebody else's.
	mixed := []*x509.Certificate{leafAt(t, other, now)[0], oregon.root}
	for _, chain := range [][]*x509.Certificate{leafAt(t, other, now), mixed, nil, {oregon.root}} {
		if _, _, err := VerifyPinned(chain, oregon.Pin(), now); !errors.Is(err, ErrNotTrusted) {
			t.Errorf("accepted: %v", err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(Token{}.Text())
	f.Add(tokenPrefix)
	f.Add(strings.Replace(Token{}.Text(), "AAAA", "AA\nAA", 1))
	f.Add("SWMTKN-1-x")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.Text() != strings.TrimSpace(text) {
			t.Errorf("%q reads as %q", text, token.Text())
		}
		if err != nil && !errors.Is(err, ErrToken) {
			t.Error(err)
		}
	})
}

func FuzzRoots(f *testing.F) {
	id := mustNew(f, "oregon", time.Now())
	f.Add(id.RootPEM())
	f.Add(id.RootPEM() + id.RootPEM())
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		trust, err := NewTrust(map[antipode.Region]string{"oregon": text})
		if err != nil {
			return
		}
		if _, err := NewTrust(trust.Roots()); err != nil {
			t.Errorf("does not read back: %v", err)
		}
	})
}
