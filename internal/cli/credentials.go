package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
)

// profile is what a client needs to use a region: a section of the credentials file.
type profile struct {
	region   antipode.Region
	id       string
	secret   string
	endpoint string
}

// readCredentials reads the profiles of a data directory, by region. A file that
// is not there has none.
func readCredentials(dir string) (map[antipode.Region]profile, error) {
	path := filepath.Join(dir, credentialsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[antipode.Region]profile{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the access keys: %w", err)
	}
	return parseCredentials(string(text)), nil
}

// parseCredentials reads the INI format of the AWS tools. What it does not know
// it passes over, as they do.
func parseCredentials(text string) map[antipode.Region]profile {
	out := map[antipode.Region]profile{}
	var region antipode.Region
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			name, _, _ = strings.Cut(name, "]")
			region = antipode.Region(strings.TrimSpace(name))
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || region == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		p := out[region]
		p.region = region
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			p.id = value
		case "aws_secret_access_key":
			p.secret = value
		case "endpoint_url":
			p.endpoint = value
		}
		out[region] = p
	}
	return out
}

// writeCredentials writes the profiles of the spec's regions, in its order.
func writeCredentials(dir string, s *spec.Spec, profiles map[antipode.Region]profile) error {
	var b strings.Builder
	b.WriteString("# An access key per region. To use one: AWS_SHARED_CREDENTIALS_FILE=this file AWS_PROFILE=region,\n" +
		"# or eval \"$(antipode env REGION)\".\n")
	for i := range s.Regions {
		r := &s.Regions[i]
		p, ok := profiles[r.Name]
		if !ok || p.id == "" {
			continue
		}
		fmt.Fprintf(&b, "\n[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\nregion = %s\nendpoint_url = %s\n",
			r.Name, p.id, p.secret, r.Name, serverURL(r.Addresses.API, r.TLS != nil))
	}
	return writeFile(filepath.Join(dir, credentialsFile), []byte(b.String()), 0o600)
}
