package spec

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Source tells where in a file the values of a Spec stand. A value's path is the
// names of its fields and the numbers of its elements, counted from 0, with dots
// between: tables.2.rpo.
type Source struct {
	File  string
	lines []string
	at    map[string]pos
}

func newSource(file string, lines []string, at map[any]pos, s *Spec) *Source {
	out := &Source{File: file, lines: lines, at: map[string]pos{}}
	out.visit(at, reflect.ValueOf(s).Elem(), "")
	return out
}

func (s *Source) visit(at map[any]pos, v reflect.Value, path string) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if p, ok := at[v.Addr().Interface()]; ok {
		s.at[path] = p
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); name != "-" {
				s.visit(at, v.Field(i), join(path, name))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			s.visit(at, v.Index(i), join(path, strconv.Itoa(i)))
		}
	default:
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// Position returns where a value stands, or what it belongs to when it is not in
// the file: line and column, counted from 1. A nil Source knows nothing: 0, 0.
func (s *Source) Position(path string) (line, column int) {
	if s == nil {
		return 0, 0
	}
	for {
		if p, ok := s.at[path]; ok {
			return p.line, p.column
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			p := s.at[""]
			return p.line, p.column
		}
		path = path[:i]
	}
}

// Excerpt shows a line with those around it and a caret below, as an Error does,
// or nothing where there is no such line.
func (s *Source) Excerpt(line, column int) string {
	if s == nil {
		return ""
	}
	var b strings.Builder
	e := Error{File: s.File, lines: s.lines}
	e.excerpt(&b, Problem{Line: line, Column: column})
	return b.String()
}

// Place writes a value's place as FILE:LINE:COLUMN, for messages.
func (s *Source) Place(path string) string {
	if s == nil {
		return path
	}
	line, column := s.Position(path)
	return fmt.Sprintf("%s:%d:%d", s.File, line, column)
}
