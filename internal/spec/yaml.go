package spec

import (
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/antipode-io/antipode/internal/spec/geo"
)

// This file holds the values that a user writes in more than one way: what they
// read from, and the one way they are written.

func (d *decoder) location(l *Location, n ast.Node, what string) {
	if _, ok := n.(*ast.MappingNode); ok {
		d.structure(n, l, what)
		return
	}
	if !d.text(n, &l.Code, what, "give a cloud region's name (us-west-2) or {latitude: 45.8, longitude: -119.7}") {
		return
	}
	if _, ok := geo.Lookup(l.Code); !ok {
		fix := "give latitude and longitude instead: {latitude: 45.8, longitude: -119.7}"
		if near := nearest(l.Code, geo.Codes()); near != "" {
			fix = "did you mean " + near + "? Otherwise " + fix
		}
		d.problem(posOf(n), strconv.Quote(l.Code)+" is no cloud region that is known here", fix)
	}
}

// MarshalYAML writes the code, or the coordinates.
func (l Location) MarshalYAML() (any, error) {
	if l.Code != "" {
		return l.Code, nil
	}
	type plain Location // without this method
	return plain(l), nil
}

func (d *decoder) key(k *Key, n ast.Node, what string) {
	if _, ok := n.(*ast.MappingNode); ok {
		d.structure(n, k, what)
		return
	}
	d.keyAttribute(&k.Partition, n, what)
}

func (d *decoder) keyAttribute(a *KeyAttribute, n ast.Node, what string) {
	d.at[a] = posOf(n)
	if _, ok := n.(*ast.MappingNode); ok {
		d.structure(n, a, what)
		return
	}
	var text string
	if !d.text(n, &text, what, "write an attribute, with its type if it is no string: id, or ts:N; a table's key may also be {partition: id, sort: ts:N}") {
		return
	}
	a.Name = text
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		a.Name, a.Type = text[:i], text[i+1:]
	}
}

// MarshalYAML writes NAME:TYPE, which a colon in the name doesn't disturb: the
// last one counts.
func (a KeyAttribute) MarshalYAML() (any, error) { return a.Name + ":" + a.Type, nil }

func (d *decoder) duration(t *Duration, n ast.Node, what string) {
	var text string
	const fix = "write a number with its unit: 0s, 500ms, 5s, 1m30s"
	if i, ok := n.(*ast.IntegerNode); ok {
		d.problem(posOf(n), what+" is "+i.GetToken().Value+" of nothing", fix)
		return
	}
	if !d.text(n, &text, what, fix) {
		return
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		d.problem(posOf(n), what+" is "+strconv.Quote(text)+", which is no duration from 0s on", fix)
		return
	}
	*t = Duration(v)
	d.zero[t] = v == 0
}

// MarshalYAML writes the duration as Go does.
func (t Duration) MarshalYAML() (any, error) { return t.String(), nil }
