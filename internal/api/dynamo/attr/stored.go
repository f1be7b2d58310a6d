package attr

import (
	"bytes"
	"errors"
)

var errNotStored = errors.New("measure stored item: these bytes are no normalised item")

// StoredSize is the ItemSize of an item in its stored form (see AppendItem),
// found without building the item. Bytes of another form are an error, or give
// a wrong size.
func StoredSize(json []byte) (int, error) {
	m := measurer{rest: json}
	size := m.item()
	if m.bad || len(m.rest) > 0 {
		return 0, errNotStored
	}
	return size, nil
}

// measurer walks over stored bytes once. After the first surprise it finds nothing
// more, so that whoever is at work returns.
type measurer struct {
	rest []byte
	bad  bool
}

func (m *measurer) accept(c byte) bool {
	if len(m.rest) > 0 && m.rest[0] == c {
		m.rest = m.rest[1:]
		return true
	}
	return false
}

func (m *measurer) expect(c byte) {
	if !m.accept(c) {
		m.rest, m.bad = nil, true
	}
}

// list calls each for every element up to the closing mark and counts them.
func (m *measurer) list(closing byte, each func()) (n int) {
	if m.accept(closing) {
		return 0
	}
	for !m.bad {
		each()
		n++
		if !m.accept(',') {
			m.expect(closing)
			break
		}
	}
	return n
}

// text takes a string. Escapes is how many bytes of it stand for no byte of their own.
func (m *measurer) text() (raw []byte, escapes int) {
	m.expect('"')
	end := bytes.IndexByte(m.rest, '"')
	if end >= 0 && bytes.IndexByte(m.rest[:end], '\\') < 0 {
		raw, m.rest = m.rest[:end], m.rest[end+1:]
		return raw, 0
	}
	for i := 0; i < len(m.rest); i++ {
		switch m.rest[i] {
		case '"':
			raw, m.rest = m.rest[:i], m.rest[i+1:]
			return raw, escapes
		case '\\':
			i++
			escapes++
			if i < len(m.rest) && m.rest[i] == 'u' { // only those below a space are written so
				i += 4
				escapes += 4
			}
		}
	}
	m.rest, m.bad = nil, true
	return nil, 0
}

func (m *measurer) length() int {
	raw, escapes := m.text()
	return len(raw) - escapes
}

func (m *measurer) item() (size int) {
	m.expect('{')
	m.list('}', func() {
		size += m.length()
		m.expect(':')
		size += m.value()
	})
	return size
}

func (m *measurer) value() (size int) {
	m.expect('{')
	name, _ := m.text()
	m.expect(':')
	switch t := TypeOf(string(name)); t {
	case S, N, B:
		size = m.scalar(t)
	case BOOL, NULL:
		end := max(0, bytes.IndexByte(m.rest, '}'))
		size, m.rest = 1, m.rest[end:]
	case M:
		m.expect('{')
		size = nestedOverhead
		size += memberOverhead * m.list('}', func() {
			size += m.length()
			m.expect(':')
			size += m.value()
		})
	case L:
		m.expect('[')
		size = nestedOverhead
		size += memberOverhead * m.list(']', func() { size += m.value() })
	case SS, NS, BS:
		m.expect('[')
		m.list(']', func() { size += m.scalar(t.Element()) })
	default:
		m.rest, m.bad = nil, true
	}
	m.expect('}')
	return size
}

func (m *measurer) scalar(t Type) int {
	raw, escapes := m.text()
	switch t {
	case N:
		return numberSize(string(raw))
	case B:
		return len(raw)/4*3 - (len(raw) - len(bytes.TrimRight(raw, "=")))
	default:
		return len(raw) - escapes
	}
}
