package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
)

const (
	// PinSize is the length of a pin: a SHA-256 digest of a root certificate.
	PinSize = sha256.Size
	// SecretSize is the length of a token's secret.
	SecretSize = 32

	tokenPrefix = "antipode-join-1-"
)

// ErrToken is matched by what makes a join token useless: malformed, unknown,
// used, expired, or made for another region.
var ErrToken = errors.New("join token is not valid")

// Token is what a region needs to join: the pin tells that it speaks to the right
// region, the secret tells the other that it was invited.
type Token struct {
	Pin    [PinSize]byte
	Secret [SecretSize]byte
}

// Text returns the token for a person to carry over. It is a secret.
func (t Token) Text() string {
	both := append(t.Pin[:len(t.Pin):len(t.Pin)], t.Secret[:]...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(both)
}

// String keeps the secret out of logs and errors.
func (t Token) String() string {
	return "join token with pin " + hex.EncodeToString(t.Pin[:4])
}

// GoString keeps the secret out of what %#v prints.
func (t Token) GoString() string { return t.String() }

// LogValue keeps the secret out of structured logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// ParseToken reads what Text wrote. White space around it is ignored.
func ParseToken(text string) (Token, error) {
	var t Token
	text = strings.TrimSpace(text)
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return t, fmt.Errorf("%w: it must start with %s; copy it whole", ErrToken, tokenPrefix)
	}
	both, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err == nil && len(both) == PinSize+SecretSize {
		copy(t.Pin[:], both)
		copy(t.Secret[:], both[PinSize:])
	}
	if t.Text() != text { // base64 passes over line ends within
		return Token{}, fmt.Errorf("%w: it is cut off or altered; copy it whole", ErrToken)
	}
	return t, nil
}

// Tokens are the join tokens that a region has given out. Only their digests are
// kept, a file each, so that a token can be made while the region runs, and is
// used once whoever comes first: removing the file decides.
type Tokens struct {
	disk vfs.FS
	dir  string
}

// NewTokens keeps tokens in dir, which need not exist yet.
func NewTokens(disk vfs.FS, dir string) *Tokens { return &Tokens{disk: disk, dir: dir} }

// Invitation says what a token allows. As JSON it is the content of the token's
// file, whose name is the secret's digest.
type Invitation struct {
	Region antipode.Region `json:"region,omitempty"` // who may use it; if empty, the holder chooses the name
	// Replace allows a root other than the one that is known of the region, whose
	// machine is gone. It needs Region.
	Replace bool      `json:"replace,omitempty"`
	Expires time.Time `json:"expires"`
}

// Create makes a token that lets one region join by way of the region with this
// identity.
func (t *Tokens) Create(id *Identity, inv Invitation, now time.Time) (Token, error) {
	if inv.Region != "" {
		if err := CheckRegion(inv.Region); err != nil {
			return Token{}, err
		}
	} else if inv.Replace {
		return Token{}, errors.New("make join token: say which region is replaced")
	}
	if !inv.Expires.After(now) {
		return Token{}, fmt.Errorf("make join token: its life is %v; give a positive one, as 1h", inv.Expires.Sub(now))
	}
	token := Token{Pin: id.Pin()}
	if _, err := rand.Read(token.Secret[:]); err != nil {
		return Token{}, fmt.Errorf("make join token: %w", err)
	}
	inv.Expires = inv.Expires.UTC()
	return token, t.put(digestOf(token.Secret), inv)
}

// Redeem uses the token up, and returns what it allows. Restore makes it usable
// again, for when the join does not come about.
func (t *Tokens) Redeem(secret [SecretSize]byte, region antipode.Region, now time.Time) (inv Invitation, restore func() error, err error) {
	name, err := t.find(digestOf(secret))
	if err != nil {
		return inv, nil, err
	}
	path := t.disk.PathJoin(t.dir, name)
	content, err := readFile(t.disk, path)
	if err != nil {
		return inv, nil, fmt.Errorf("%w: it was used already", ErrToken)
	}
	if err := json.Unmarshal(content, &inv); err != nil {
		return inv, nil, fmt.Errorf("read join token %s: %w", path, err)
	}
	if inv.Region != "" && inv.Region != region {
		return inv, nil, fmt.Errorf("%w: it was made for region %s, not %s", ErrToken, inv.Region, region)
	}
	if err := t.disk.Remove(path); err != nil {
		return inv, nil, fmt.Errorf("%w: it was used already", ErrToken)
	}
	if err := syncDir(t.disk, t.dir); err != nil {
		return inv, nil, fmt.Errorf("use up join token: %w", err)
	}
	if !now.Before(inv.Expires) {
		return inv, nil, fmt.Errorf("%w: it expired at %s; make another", ErrToken, inv.Expires.Format(time.RFC3339))
	}
	return inv, func() error { return t.put(name, inv) }, nil
}

// find compares with every name, and in constant time, so that timing tells
// nothing about the digests.
func (t *Tokens) find(digest string) (string, error) {
	names, err := t.disk.List(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("list join tokens: %w", err)
	}
	found := ""
	for _, name := range names {
		if subtle.ConstantTimeCompare([]byte(name), []byte(digest)) == 1 {
			found = name
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w: it is not one of this region, or was used already; make another", ErrToken)
	}
	return found, nil
}

func (t *Tokens) put(digest string, inv Invitation) error {
	content, err := json.Marshal(inv)
	if err != nil {
		return fmt.Errorf("encode join token: %w", err)
	}
	return WriteSecret(t.disk, t.dir, digest, content)
}

func digestOf(secret [SecretSize]byte) string {
	sum := sha256.Sum256(secret[:])
	return hex.EncodeToString(sum[:])
}

func pinOf(cert *x509.Certificate) [PinSize]byte { return sha256.Sum256(cert.Raw) }

// VerifyPinned checks certificates presented by a region whose root is known by
// its pin only, and returns the region with its root.
func VerifyPinned(presented []*x509.Certificate, pin [PinSize]byte, now time.Time) (antipode.Region, Trust, error) {
	for _, cert := range presented {
		sum := pinOf(cert)
		if subtle.ConstantTimeCompare(sum[:], pin[:]) != 1 {
			continue
		}
		region, err := claimedRegion(presented[0])
		if err != nil {
			return "", Trust{}, fmt.Errorf("%w: %w", ErrNotTrusted, err)
		}
		trust, err := NewTrust(map[antipode.Region]string{region: certificatePEM(cert)})
		if err != nil {
			return "", Trust{}, fmt.Errorf("%w: %w", ErrNotTrusted, err)
		}
		region, err = trust.Verify(presented, now)
		return region, trust, err
	}
	return "", Trust{}, fmt.Errorf("%w: its root is not the one that the join token was made with; check the address, or somebody is in between", ErrNotTrusted)
}
