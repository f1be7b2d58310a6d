package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// TestJoin lets a region in by a token, once.
func TestJoin(t *testing.T) {
	w := newTCPWorld(t, true, oregon, mumbai)
	disk := vfs.NewMem()
	tokens := identity.NewTokens(disk, "tokens")
	var a *Mesh
	var log logBuffer
	var failing, replacing atomic.Bool
	cfg := quick(oregon)
	cfg.Tokens, cfg.Logger = tokens, log.logger()
	cfg.Trust = w.trust.Without(mumbai)
	cfg.OnJoin = func(_ context.Context, region antipode.Region, root string, replace bool) error {
		if failing.Load() {
			return errors.New("the regions do not agree just now")
		}
		if replace != replacing.Load() {
			t.Errorf("replace is %v", replace)
		}
		trust, err := a.Trust().With(region, root)
		if err == nil {
			a.SetTrust(trust)
		}
		return err
	}
	a = w.open(t, cfg)
	closeAtEnd(t, a)

	now := time.Now()
	create := func(region antipode.Region, life time.Duration) string {
		token, err := tokens.Create(w.ids[oregon], identity.Invitation{Region: region, Replace: replacing.Load(), Expires: now.Add(life)}, now)
		if err != nil {
			t.Fatal(err)
		}
		return token.Text()
	}
	join := func(token string, id *identity.Identity) (identity.Trust, error) {
		return Join(t.Context(), JoinConfig{Address: w.addresses[oregon], Token: token, Identity: id, Now: time.Now})
	}
	refused := func(what, token string, id *identity.Identity, want error, text string) {
		t.Helper()
		if _, err := join(token, id); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	good := create("", time.Hour)
	refused("malformed token", good[:40], w.ids[mumbai], identity.ErrToken, "copy it whole")
	refused("expired token", create("", time.Nanosecond), w.ids[mumbai], ErrJoinRefused, "expired")
	refused("token for another region", create("paris", time.Hour), w.ids[mumbai], ErrJoinRefused, "made for region paris")
	refused("name of the issuer", good, newIdentity(t, oregon), ErrJoinRefused, "choose another")
	parsed, err := identity.ParseToken(good)
	if err != nil {
		t.Fatal(err)
	}
	wrongPin, wrongSecret := parsed, parsed
	wrongPin.Pin[0]++
	wrongSecret.Secret[0]++
	refused("wrong pin", wrongPin.Text(), w.ids[mumbai], ErrNotTrusted, "not the one that the join token was made with")
	refused("wrong secret", wrongSecret.Text(), w.ids[mumbai], ErrJoinRefused, "not one of this region")
	failing.Store(true)
	refused("regions do not agree", good, w.ids[mumbai], ErrJoinRefused, "do not agree")
	failing.Store(false)

	b := func() *Mesh {
		trust, err := join(good, w.ids[mumbai])
		if err != nil {
			t.Fatal(err)
		}
		if !trust.Has(oregon) || !trust.Has(mumbai) {
			t.Errorf("learnt the roots of %v", trust.Regions())
		}
		cfg := quick(mumbai)
		cfg.Trust = trust
		return w.open(t, cfg)
	}()
	closeAtEnd(t, b)
	eventually(t, "connected", func() bool { return a.Connected(mumbai) && b.Connected(oregon) })
	refused("used token", good, w.ids[mumbai], ErrJoinRefused, "used already")
	refused("known region with another root", create("", time.Hour), newIdentity(t, mumbai), ErrJoinRefused, "another root is known")
	if !a.Connected(mumbai) {
		t.Error("a refused join disturbed the region of that name")
	}
	// Its machine is gone, and another one takes its place.
	replacing.Store(true)
	anew := newIdentity(t, mumbai)
	if trust, err := join(create(mumbai, time.Hour), anew); err != nil || trust.PEM(mumbai) != anew.RootPEM() {
		t.Errorf("it was replaced: %v", err)
	}
	eventually(t, "the old one is cut off", func() bool { return !a.Connected(mumbai) && !b.Connected(oregon) })
	for _, secret := range []string{good, good[len(good)-20:]} {
		if log.contains(secret) {
			t.Error("a token is in the log")
		}
	}
}

// TestJoinNeedsProof has a stranger offer a root that is not his.
func TestJoinNeedsProof(t *testing.T) {
	issuer, victim, thief := newIdentity(t, oregon), newIdentity(t, mumbai), newIdentity(t, mumbai)
	tr := &tcpTransport{cfg: &Config{Self: oregon, Now: time.Now, Identity: issuer}}
	frame, err := json.Marshal(joinRequest{Region: mumbai, Root: victim.RootPEM(), Secret: make([]byte, identity.SecretSize)})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := thief.Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	state := connectionState(cert)
	if _, err := tr.admit(t.Context(), state, frame); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("got %v", err)
	}
}

// FuzzJoinRequest feeds a region what a stranger may send it.
func FuzzJoinRequest(f *testing.F) {
	f.Add([]byte(`{"region":"mumbai","root":"-----BEGIN CERTIFICATE-----","secret":"AAAA"}`))
	f.Add([]byte(`{"region":"","root":"","secret":null}`))
	f.Add([]byte(`{`))
	issuer, stranger := newIdentity(f, oregon), newIdentity(f, mumbai)
	cert, err := stranger.Certificate(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	whole, err := json.Marshal(joinRequest{Region: mumbai, Root: stranger.RootPEM(), Secret: make([]byte, identity.SecretSize)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	tr := &tcpTransport{cfg: &Config{Self: oregon, Now: time.Now, Identity: issuer, Tokens: identity.NewTokens(vfs.NewMem(), "tokens")}}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var framed bytes.Buffer
		framed.Write([]byte{0, 0, byte(len(frame) >> 8), byte(len(frame))})
		framed.Write(frame)
		if body, err := readJoin(&framed, maxJoinRequest); len(frame) < 1<<16 && (err != nil || !bytes.Equal(body, frame)) {
			t.Errorf("read back %d bytes: %v", len(body), err)
		}
		if _, err := tr.admit(t.Context(), connectionState(cert), frame); err == nil {
			t.Error("let in without a token")
		}
	})
}

// FuzzJoinAnswer feeds a joining region what the other side may answer.
func FuzzJoinAnswer(f *testing.F) {
	issuer := newIdentity(f, oregon)
	known, err := identity.NewTrust(map[antipode.Region]string{oregon: issuer.RootPEM()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"roots":{}}`))
	f.Add([]byte(`{"error":"no"}`))
	f.Add([]byte(`{"roots":{"mumbai":"x"}}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		trust, err := decodeJoinAnswer(frame, oregon, known)
		if err == nil && !trust.Has(oregon) {
			t.Error("the issuer is not trusted")
		}
	})
}

// FuzzHeartbeat reads any answer to a heartbeat.
func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, answer []byte) {
		if _, err := decodeHeartbeat(answer); (err == nil) != (len(answer) >= 8) {
			t.Errorf("%d bytes: %v", len(answer), err)
		}
	})
}
