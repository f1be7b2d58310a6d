package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
)

// ErrNotTrusted is matched when a certificate is not covered by the trusted roots.
var ErrNotTrusted = errors.New("not trusted")

// Trust is a set of regions with their roots. The zero value trusts nobody. It
// is immutable: With and Without return changed copies.
type Trust struct {
	regions map[antipode.Region]trusted
}

type trusted struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// NewTrust reads the roots of each region: one PEM certificate, or several while
// a root is being replaced.
func NewTrust(roots map[antipode.Region]string) (Trust, error) {
	t := Trust{regions: make(map[antipode.Region]trusted, len(roots))}
	for region, text := range roots {
		entry, err := parseRoots(region, text)
		if err != nil {
			return Trust{}, err
		}
		t.regions[region] = entry
	}
	return t, nil
}

func parseRoots(region antipode.Region, text string) (trusted, error) {
	if err := CheckRegion(region); err != nil {
		return trusted{}, err
	}
	certs, err := parseCertificates(text)
	if err != nil {
		return trusted{}, fmt.Errorf("read root of region %s: %w", region, err)
	}
	entry := trusted{certs: certs, pool: x509.NewCertPool()}
	for _, cert := range certs {
		if !cert.IsCA {
			return trusted{}, fmt.Errorf("read root of region %s: the certificate of %q is not an authority's", region, cert.Subject.CommonName)
		}
		entry.pool.AddCert(cert)
	}
	return entry, nil
}

// With returns a copy in which the region's roots are these.
func (t Trust) With(region antipode.Region, roots string) (Trust, error) {
	entry, err := parseRoots(region, roots)
	if err != nil {
		return Trust{}, err
	}
	out := Trust{regions: maps.Clone(t.regions)}
	if out.regions == nil {
		out.regions = make(map[antipode.Region]trusted, 1)
	}
	out.regions[region] = entry
	return out, nil
}

// Without returns a copy that does not trust the region.
func (t Trust) Without(region antipode.Region) Trust {
	out := Trust{regions: maps.Clone(t.regions)}
	delete(out.regions, region)
	return out
}

// Has reports whether the region is trusted.
func (t Trust) Has(region antipode.Region) bool {
	_, ok := t.regions[region]
	return ok
}

// Regions lists the trusted regions, sorted.
func (t Trust) Regions() []antipode.Region { return slices.Sorted(maps.Keys(t.regions)) }

// PEM returns the roots of a region, or "" when it is not trusted.
func (t Trust) PEM(region antipode.Region) string {
	var text strings.Builder
	for _, cert := range t.regions[region].certs {
		text.WriteString(certificatePEM(cert))
	}
	return text.String()
}

// Roots returns what NewTrust takes.
func (t Trust) Roots() map[antipode.Region]string {
	out := make(map[antipode.Region]string, len(t.regions))
	for region := range t.regions {
		out[region] = t.PEM(region)
	}
	return out
}

// Verify returns which region presented these certificates, leaf first. Its error
// matches ErrNotTrusted.
func (t Trust) Verify(presented []*x509.Certificate, now time.Time) (antipode.Region, error) {
	if len(presented) == 0 {
		return "", fmt.Errorf("%w: no certificate was presented", ErrNotTrusted)
	}
	region, err := claimedRegion(presented[0])
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotTrusted, err)
	}
	entry, ok := t.regions[region]
	if !ok {
		return "", fmt.Errorf("%w: certificate is of region %s, whose root is not trusted here; let it join with a token, or correct the peer's address", ErrNotTrusted, region)
	}
	// No intermediates: a region's root signs its leaves itself.
	_, err = presented[0].Verify(x509.VerifyOptions{
		Roots:       entry.pool,
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", fmt.Errorf("%w: certificate that claims region %s: %w", ErrNotTrusted, region, err)
	}
	return region, nil
}
