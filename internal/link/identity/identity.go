// Package identity is how a region proves to the others who it is. Each region
// has a root of its own (an ECDSA P-256 certificate authority) that signs the
// region's short-lived leaf certificates; the others keep the root in their
// Trust. A leaf names its region in a URI, spiffe://REGION.antipode.internal/link,
// and counts only when the root of that very region signed it, so that no region
// can speak for another.
//
// Identity and Tokens may be used concurrently, a Trust is immutable, and nothing
// here needs to be closed.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
)

const (
	rootLife = 10 * 365 * 24 * time.Hour
	leafLife = 24 * time.Hour
	// backdate lets a peer whose clock is behind accept a fresh certificate.
	backdate = 5 * time.Minute

	domainSuffix = ".antipode.internal"
	linkPath     = "/link"
)

// Identity is a region's root with its key, and the current leaf. The leaf's key
// never leaves memory.
type Identity struct {
	region antipode.Region
	root   *x509.Certificate
	key    *ecdsa.PrivateKey

	mu   sync.Mutex
	leaf *tls.Certificate // nil until first asked for
}

// New makes a root that is kept nowhere but in memory.
func New(region antipode.Region, now time.Time) (*Identity, error) {
	if err := CheckRegion(region); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make root key of region %s: %w", region, err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"antipode"}, CommonName: string(region) + " root"},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: string(region) + domainSuffix}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // signs leaves, never another authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign root of region %s: %w", region, err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back root of region %s: %w", region, err)
	}
	return &Identity{region: region, root: root, key: key}, nil
}

// Region returns whose identity it is.
func (id *Identity) Region() antipode.Region { return id.region }

// RootPEM returns the root certificate, for other regions to trust.
func (id *Identity) RootPEM() string { return certificatePEM(id.root) }

// Pin returns the SHA-256 digest of the root certificate.
func (id *Identity) Pin() [PinSize]byte { return pinOf(id.root) }

// Certificate returns the region's leaf together with its root, made anew once
// two thirds of its 24 hours have passed.
func (id *Identity) Certificate(now time.Time) (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.leaf != nil && now.Before(id.leaf.Leaf.NotAfter.Add(-leafLife/3)) && now.After(id.leaf.Leaf.NotBefore) {
		return id.leaf, nil
	}
	leaf, err := id.issue(now)
	if err != nil {
		return nil, fmt.Errorf("issue certificate of region %s: %w", id.region, err)
	}
	id.leaf = leaf
	return leaf, nil
}

func (id *Identity) issue(now time.Time) (*tls.Certificate, error) {
	if now.After(id.root.NotAfter) {
		return nil, fmt.Errorf("its root ended at %s; make a new one and have the other regions trust it", id.root.NotAfter.Format(time.RFC3339))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"antipode"}, CommonName: string(id.region)},
		URIs:         []*url.URL{linkURI(id.region)},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, id.root, key.Public(), id.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The root goes along for those who know it by its pin only.
	return &tls.Certificate{Certificate: [][]byte{der, id.root.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// CheckRegion reports whether a region's name can stand in a certificate: it
// must be one label of a host name.
func CheckRegion(region antipode.Region) error {
	name := string(region)
	valid := name != "" && len(name) <= 63 && !strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-")
	for _, c := range []byte(name) {
		valid = valid && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !valid {
		return fmt.Errorf("region name %q can't stand in a certificate: use 1 to 63 of a-z, 0-9 and - (not at the ends)", name)
	}
	return nil
}

func linkURI(region antipode.Region) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: string(region) + domainSuffix, Path: linkPath}
}

// claimedRegion reads which region a leaf says it is. Nothing is verified yet.
func claimedRegion(leaf *x509.Certificate) (antipode.Region, error) {
	if len(leaf.URIs) != 1 {
		return "", fmt.Errorf("certificate of %q has %d URIs in place of one spiffe://REGION%s%s", leaf.Subject.CommonName, len(leaf.URIs), domainSuffix, linkPath)
	}
	uri := leaf.URIs[0]
	name, ok := strings.CutSuffix(uri.Host, domainSuffix)
	region := antipode.Region(name)
	if !ok || CheckRegion(region) != nil || *uri != *linkURI(region) {
		return "", fmt.Errorf("certificate is for %q, not for a link of a region", uri)
	}
	return region, nil
}

func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	b[0] &= 0x7f // serial numbers are positive
	return new(big.Int).SetBytes(b[:]), nil
}

func certificatePEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// parseCertificates reads one or more PEM certificates and nothing else.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := []byte(text)
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not a PEM certificate")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return certs, nil
}
