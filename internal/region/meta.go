package region

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// meta is the few things that a region keeps about itself in its store, under
// the prefix 'm'.
type meta struct{ store engine.Store }

const (
	metaCeiling     = "mceiling"     // the clock's ceiling, 8 bytes
	metaIncarnation = "mincarnation" // of the journal, 4 bytes
	metaRecovered   = "mrecovered"   // the incarnation that has all that the one before had told others
	metaReroot      = "mreroot/"     // and a region whose root was replaced here: the one that the group knows, as PEM
)

func (m *meta) get(key string, size int) ([]byte, error) {
	v, err := m.store.Get(nil, []byte(key))
	if errors.Is(err, engine.ErrNotFound) {
		return make([]byte, size), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key[1:], err)
	}
	if len(v) != size {
		return nil, fmt.Errorf("read %s: %w: %d bytes", key[1:], engine.ErrCorrupt, len(v))
	}
	return v, nil
}

// set returns once the value is durable.
func (m *meta) set(key string, value []byte) error {
	b := m.store.NewBatch()
	b.Set([]byte(key), value)
	return m.apply(key, b)
}

func (m *meta) apply(key string, b engine.Batch) error {
	c, err := m.store.Apply(b)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", key[1:], err)
	}
	return nil
}

func (m *meta) remove(key string) error {
	b := m.store.NewBatch()
	b.Delete([]byte(key))
	return m.apply(key, b)
}

func (m *meta) ceiling() (antipode.Stamp, error) {
	v, err := m.get(metaCeiling, 8)
	if err != nil {
		return 0, err
	}
	return antipode.Stamp(binary.BigEndian.Uint64(v)), nil
}

func (m *meta) setCeiling(s antipode.Stamp) error {
	return m.set(metaCeiling, binary.BigEndian.AppendUint64(nil, uint64(s)))
}

func (m *meta) number(key string) (uint32, error) {
	v, err := m.get(key, 4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(v), nil
}

func (m *meta) setNumber(key string, n uint32) error {
	return m.set(key, binary.BigEndian.AppendUint32(nil, n))
}
