package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/region"
	"github.com/antipode-io/antipode/internal/spec"
)

// The files of a data directory that are no single region's.
const (
	specFile        = "antipode.yaml" // the effective spec
	credentialsFile = "credentials"   // access keys, as the AWS tools keep them
	wanFile         = "wan"           // how `up` emulates the wide-area network, for region run
	lockFile        = "up.lock"       // held while `up` runs
)

// restartFile in a region's folder asks the `up` that started the region to start
// it again.
const restartFile = "restart"

// logFile is the output of a region that `up` started, in the region's folder.
const logFile = "log"

// errSpec marks a spec that can't be used.
var errSpec = spec.ErrInvalid

// install is a data directory with what its spec says.
type install struct {
	dir  string
	spec *spec.Spec
}

// errNothingThere is matched when a data directory holds no spec.
var errNothingThere = errors.New("nothing was started there yet")

// openInstall reads the data directory's spec.
func (a *app) openInstall(dir string) (*install, error) {
	path := filepath.Join(dir, specFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: %w; start it with `%s`, or name another place with --data DIR", path, errNothingThere, a.command(dir, "up"))
	}
	if err != nil {
		return nil, fmt.Errorf("read the spec: %w", err)
	}
	s, err := spec.Load(text, path)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s was written by `antipode up` or `antipode region run` and changed since; start with -f FILE to write it anew", err, path)
	}
	return &install{dir: dir, spec: s}, nil
}

// region finds a region by its name or by that of the cloud region it is in.
func (in *install) region(name string) (*spec.Region, error) { return findRegion(in.spec, name) }

func findRegion(s *spec.Spec, name string) (*spec.Region, error) {
	if resolved, ok := s.Resolve(name); ok {
		r, _ := s.Region(resolved)
		return r, nil
	}
	var names []string
	for _, r := range s.Regions {
		names = append(names, string(r.Name))
	}
	if near := nearest(name, names); near != "" {
		return nil, usagef("there is no region %q; did you mean %s? (there are %s)", name, near, strings.Join(names, ", "))
	}
	return nil, usagef("there is no region %q; there are %s", name, strings.Join(names, ", "))
}

// nearest returns the candidate that a misspelt word most likely meant, or "".
func nearest(word string, candidates []string) string {
	all := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, c := range candidates {
		all.AddCommand(&cobra.Command{Use: c, Run: func(*cobra.Command, []string) {}})
	}
	if near := all.SuggestionsFor(word); len(near) > 0 {
		return near[0]
	}
	return ""
}

func (in *install) path(region antipode.Region, parts ...string) string {
	return filepath.Join(append([]string{in.dir, string(region)}, parts...)...)
}

// hasToken reports whether the region's operator can be asked from here.
func (in *install) hasToken(name antipode.Region) bool {
	_, err := os.Stat(region.TokenPath(vfs.Default, in.dir, name))
	return err == nil
}

// local lists the regions that can be asked from here, in the spec's order.
func (in *install) local() []*spec.Region {
	var out []*spec.Region
	for i := range in.spec.Regions {
		if r := &in.spec.Regions[i]; in.hasToken(r.Name) {
			out = append(out, r)
		}
	}
	return out
}

// theRegion returns the region named, or the only one that is kept here.
func (in *install) theRegion(name string) (*spec.Region, error) {
	if name != "" {
		return in.region(name)
	}
	here := in.local()
	switch len(here) {
	case 1:
		return here[0], nil
	case 0:
		return nil, fmt.Errorf("no region was started in %s yet; start one with antipode region run, or name another place with --data DIR", in.dir)
	}
	var names []string
	for _, r := range here {
		names = append(names, string(r.Name))
	}
	return nil, usagef("several regions are kept in %s: say which one (%s)", in.dir, strings.Join(names, ", "))
}

// client returns what asks a region's operator port.
func (in *install) client(r *spec.Region) (*operator.Client, error) {
	path := region.TokenPath(vfs.Default, in.dir, r.Name)
	token, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("region %s has no operator token at %s: it was not started from here yet, or lives on another machine; ask there", r.Name, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read operator token of region %s: %w", r.Name, err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}
	c := &operator.Client{Token: strings.TrimSpace(string(token)), HTTP: &http.Client{Transport: transport}}
	c.Addr = serverURL(r.Addresses.Operator, r.TLS != nil)
	if r.TLS != nil {
		transport.TLSClientConfig, err = trustFile(r.TLS.Cert)
	}
	return c, err
}

// serverURL gives the URL of a port, by way of loopback where it is bound to all addresses.
func serverURL(addr string, encrypted bool) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	if encrypted {
		return "https://" + addr
	}
	return "http://" + addr
}

// trustFile accepts exactly the certificate in the file, under whatever name the
// server is called: the region's own, kept on this machine. Without the file the
// system's authorities decide.
func trustFile(path string) (*tls.Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("read certificate %s: it is not PEM", path)
	}
	want, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection wants more: this very certificate
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || !state.PeerCertificates[0].Equal(want) {
				return fmt.Errorf("the server's certificate is not the one in %s; restart the region if the file was renewed", path)
			}
			return nil
		},
	}, nil
}

// writeFile puts a file in place whole and synced.
func writeFile(path string, content []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// regionNames completes an argument with the names of the regions.
func (a *app) regionNames(dir *string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		in, err := a.openInstall(*dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, r := range in.spec.Regions {
			names = append(names, string(r.Name))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
