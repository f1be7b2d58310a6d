package spec

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/antipode-io/antipode"
)

// Short writes the spec as YAML as a person would: what is a default is left out.
// Load reads it back to the same Spec.
func (s *Spec) Short() ([]byte, error) {
	short := *s
	short.Regions, short.Tables = slices.Clone(s.Regions), slices.Clone(s.Tables)
	if s.BasePort == DefaultBasePort {
		short.BasePort = 0
	}
	if s.Lease == DefaultLease {
		short.Lease = 0
	}
	if s.ReturnAfter == DefaultReturnAfter {
		short.ReturnAfter = 0
	}
	for i := range short.Regions {
		r, def := &short.Regions[i], defaultAddresses(s.BasePort, i)
		for _, f := range []struct{ is, def *string }{{&r.Addresses.API, &def.API}, {&r.Addresses.Operator, &def.Operator}, {&r.Addresses.Link, &def.Link}} {
			if *f.is == *f.def {
				*f.is = ""
			}
		}
	}
	for i := range short.Tables {
		short.Tables[i] = short.Tables[i].short(s.DataRegions(), s.HasSpareMajority())
	}
	text, err := short.Marshal()
	if err != nil {
		return nil, err
	}
	return tidy(text), nil
}

// short empties the fields that fill would set to what they are.
func (t *Table) short(data []antipode.Region, spare bool) Table {
	out := *t
	v := reflect.ValueOf(&out).Elem()
	for _, name := range []string{"Replicas", "Writer", "Home", "RPOCopies", "Unprotected", "Failover", "Return"} {
		f := v.FieldByName(name)
		was := reflect.ValueOf(f.Interface())
		f.SetZero()
		filled := out
		filled.fill(data, spare)
		if !reflect.DeepEqual(reflect.ValueOf(filled).FieldByName(name).Interface(), was.Interface()) {
			f.Set(was)
		}
	}
	return out
}

// tidy takes away the zeros that are written behind a duration, 4h0m0s, and
// behind a number, 100.0.
func tidy(text []byte) []byte {
	text = regexp.MustCompile(`(?m)(: -?\d+)\.0$`).ReplaceAll(text, []byte("$1"))
	return regexp.MustCompile(`(?m): (\d+h)?(\d+m)?(\d+)s$`).ReplaceAllFunc(text, func(m []byte) []byte {
		short := bytes.TrimSuffix(bytes.TrimSuffix(m, []byte("m0s")), []byte("h0"))
		switch {
		case len(short) == len(m):
			return m
		case bytes.HasSuffix(m, []byte("h0m0s")):
			short = append(bytes.Clone(short), 'h')
		default:
			short = append(bytes.Clone(short), 'm')
		}
		if _, err := time.ParseDuration(string(short[2:])); err != nil {
			return m
		}
		return short
	})
}

// ReplaceNeeds puts needs into the text of a spec, in place of those that it has,
// and leaves every other line as it is, comments included.
func ReplaceNeeds(text []byte, filename string, needs *Needs) ([]byte, error) {
	d, clean := newDecoder(text)
	root := d.document(clean, "")
	if one, ok := root.(*ast.MappingValueNode); ok {
		root = ast.Mapping(one.GetToken(), false, one)
	}
	m, ok := root.(*ast.MappingNode)
	if !ok || m.IsFlowStyle {
		return nil, fmt.Errorf("put answers into %s: it is written in one pair of braces; write regions: and the rest on lines of their own, or name another file", filename)
	}
	block, err := yaml.MarshalWithOptions(struct {
		Needs *Needs `yaml:"needs"`
	}{needs}, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write needs as yaml: %w", err)
	}
	lines := strings.SplitAfter(clean, "\n")
	from, to := len(lines), len(lines)
	for i, entry := range m.Values {
		if key, ok := entry.Key.(*ast.StringNode); ok && key.Value == "needs" {
			from = posOf(entry.Key).line - 1
			if i+1 < len(m.Values) {
				to = posOf(m.Values[i+1].Key).line - 1
			}
			// Blank lines and comments before the next field are about that one.
			for to > from+1 && aside(lines[to-1]) {
				to--
			}
		}
	}
	before := strings.Join(lines[:from], "")
	if from == len(lines) {
		before = strings.TrimRight(before, "\n") + "\n\n"
	}
	return []byte(before + string(tidy(block)) + strings.Join(lines[to:], "")), nil
}

// aside reports whether a line is blank, or a comment that stands at the margin.
func aside(line string) bool { return strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") }
