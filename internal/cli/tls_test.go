package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/region"
	"github.com/antipode-io/antipode/internal/spec"
)

// healthy is a region that answers /healthz and nothing else.
type healthy struct{ operator.Backend }

func (healthy) Health() operator.Health {
	return operator.Health{Ready: true, State: operator.StateLive}
}

// TestTLS: a region's own certificate is believed under whatever name the region
// is reached, and another one is not.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert := newCertificate(t, dir, "region")
	newCertificate(t, dir, "other")
	server, err := operator.NewServer(operator.Config{
		Backend: healthy{}, Token: operator.NewToken(), Gatherer: prometheus.NewRegistry(), Now: time.Now,
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	defer func() {
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	s := spec.Builtin()
	r := &s.Regions[0]
	r.Addresses.Operator = strings.Replace(l.Addr().String(), "127.0.0.1", "0.0.0.0", 1)
	in := &install{dir: dir, spec: s}
	token := region.TokenPath(vfs.Default, dir, r.Name)
	if err := os.MkdirAll(filepath.Dir(token), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(token, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	health := func(cert string) error {
		r.TLS = &spec.TLS{Cert: filepath.Join(dir, cert)}
		return in.call(t.Context(), r, func(ctx context.Context, c *operator.Client) error {
			_, err := c.Health(ctx)
			return err
		})
	}
	if err := health("region.pem"); err != nil {
		t.Error(err)
	}
	if err := health("other.pem"); err == nil || !strings.Contains(err.Error(), "is not the one in") {
		t.Errorf("another certificate: %v", err)
	}
	if err := health("none.pem"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the file the system's authorities decide: %v", err)
	}
}

// newCertificate makes a certificate for a name that nobody uses, and keeps it in dir.
func newCertificate(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name + ".invalid"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, name+".pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
