package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
)

const (
	rootFile = "root.pem"
	keyFile  = "root-key.pem"

	trustFile = "trust.json"

	// maxFile bounds what is read of a file of this package.
	maxFile = 1 << 20
)

var (
	// ErrExists is returned by InitCA where there is an identity already.
	ErrExists = errors.New("an identity exists already")
	// ErrNoIdentity is returned by LoadCA where there is none.
	ErrNoIdentity = errors.New("no identity")
)

// InitCA makes the root of a region and keeps it in dir, readable by the owner
// only.
func InitCA(disk vfs.FS, dir string, region antipode.Region, now time.Time) (*Identity, error) {
	if _, err := disk.Stat(disk.PathJoin(dir, rootFile)); err == nil {
		return nil, fmt.Errorf("make identity in %s: %w; remove it first if its region is to get a new one", dir, ErrExists)
	}
	id, err := New(region, now)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return nil, fmt.Errorf("encode root key: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	// The certificate comes last: once it is there, the key is.
	if err := WriteSecret(disk, dir, keyFile, keyPEM); err != nil {
		return nil, err
	}
	if err := WriteSecret(disk, dir, rootFile, []byte(id.RootPEM())); err != nil {
		return nil, err
	}
	return id, nil
}

// LoadCA reads what InitCA wrote.
func LoadCA(disk vfs.FS, dir string) (*Identity, error) {
	rootText, err := readFile(disk, disk.PathJoin(dir, rootFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load identity from %s: %w; make one with antipode ca init", dir, ErrNoIdentity)
	}
	if err != nil {
		return nil, err
	}
	keyText, err := readFile(disk, disk.PathJoin(dir, keyFile))
	if err != nil {
		return nil, err
	}
	id, err := decodeIdentity(rootText, keyText)
	if err != nil {
		return nil, fmt.Errorf("load identity from %s: %w; restore the files, or remove them and join anew", dir, err)
	}
	return id, nil
}

func decodeIdentity(rootText, keyText []byte) (*Identity, error) {
	certs, err := parseCertificates(string(rootText))
	if err != nil {
		return nil, err
	}
	root := certs[0]
	if len(certs) != 1 || !root.IsCA || len(root.URIs) != 1 {
		return nil, errors.New("not the root certificate of a region")
	}
	name, ok := strings.CutSuffix(root.URIs[0].Host, domainSuffix)
	region := antipode.Region(name)
	if !ok || CheckRegion(region) != nil {
		return nil, fmt.Errorf("root certificate names no region but %q", root.URIs[0])
	}
	block, _ := pem.Decode(keyText)
	if block == nil {
		return nil, errors.New("root key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse root key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(root.PublicKey) {
		return nil, errors.New("root key does not belong to the root certificate")
	}
	return &Identity{region: region, root: root, key: key}, nil
}

// SaveTrust keeps the roots that a region learnt when it joined.
func SaveTrust(disk vfs.FS, dir string, trust Trust) error {
	content, err := json.MarshalIndent(trust.Roots(), "", "\t")
	if err != nil {
		return fmt.Errorf("encode trust: %w", err)
	}
	return WriteSecret(disk, dir, trustFile, content)
}

// LoadTrust reads what SaveTrust wrote. Its error matches fs.ErrNotExist where
// there is nothing.
func LoadTrust(disk vfs.FS, dir string) (Trust, error) {
	content, err := readFile(disk, disk.PathJoin(dir, trustFile))
	if err != nil {
		return Trust{}, err
	}
	var roots map[antipode.Region]string
	if err := json.Unmarshal(content, &roots); err != nil {
		return Trust{}, fmt.Errorf("read %s: %w", disk.PathJoin(dir, trustFile), err)
	}
	return NewTrust(roots)
}

// WriteSecret puts a file in place whole and synced, readable by the owner only.
func WriteSecret(disk vfs.FS, dir, name string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", disk.PathJoin(dir, name), err)
		}
	}()
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp := disk.PathJoin(dir, name+".tmp")
	f, err := disk.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = errors.Join(restrict(f), write(f, content), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := disk.Rename(temp, disk.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(disk, dir)
}

func syncDir(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func write(f vfs.File, content []byte) error {
	_, err := f.Write(content)
	return err
}

func readFile(disk vfs.FS, name string) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}
