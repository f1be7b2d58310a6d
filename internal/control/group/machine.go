package group

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// machine is what the log builds: the agreed state, and which requests it holds.
type machine struct {
	state    *control.State
	sessions map[antipode.Region]session
}

func newMachine() *machine {
	return &machine{state: control.NewState(), sessions: map[antipode.Region]session{}}
}

// session remembers the requests of one region: the highest sequence, and
// which of the 64 up to it have been applied.
type session struct {
	Max  uint64 `json:"max"`
	Seen uint64 `json:"seen"` // bit i: Max-i
}

// admit reports whether the request is new, and remembers it. One that is older
// than the window counts as known: nothing is applied twice.
func (s session) admit(seq uint64) (session, bool) {
	if seq > s.Max {
		if shift := seq - s.Max; shift < 64 {
			s.Seen <<= shift
		} else {
			s.Seen = 0
		}
		return session{Max: seq, Seen: s.Seen | 1}, true
	}
	back := s.Max - seq
	if back >= 64 || s.Seen&(1<<back) != 0 {
		return s, false
	}
	s.Seen |= 1 << back
	return s, true
}

// apply takes one entry. fresh is false for a request that was applied before.
func (m *machine) apply(index uint64, e entry) (fresh bool, err error) {
	s, fresh := m.sessions[e.From].admit(e.Seq)
	if !fresh {
		return false, nil
	}
	m.sessions[e.From] = s
	m.state, err = control.Apply(m.state, index, e.Command)
	return true, err
}

// machineFormat is the version of a snapshot's bytes.
const machineFormat = 1

type machineJSON struct {
	Format   int                         `json:"v"`
	State    json.RawMessage             `json:"state"`
	Sessions map[antipode.Region]session `json:"sessions"`
}

func (m *machine) encode() ([]byte, error) {
	state, err := m.state.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode control state: %w", err)
	}
	b, err := json.Marshal(machineJSON{Format: machineFormat, State: state, Sessions: m.sessions})
	if err != nil {
		return nil, fmt.Errorf("encode control snapshot: %w", err)
	}
	return b, nil
}

func decodeMachine(b []byte) (*machine, error) {
	var j machineJSON
	if err := decodeStrict(b, &j); err != nil {
		return nil, fmt.Errorf("decode control snapshot: %w", err)
	}
	if j.Format != machineFormat {
		return nil, fmt.Errorf("%w: snapshot format %d, this one reads %d: upgrade this region", ErrNewer, j.Format, machineFormat)
	}
	state, err := control.Decode(j.State)
	if err != nil {
		return nil, fmt.Errorf("decode control snapshot: %w", err)
	}
	m := &machine{state: state, sessions: map[antipode.Region]session{}}
	maps.Copy(m.sessions, j.Sessions)
	return m, nil
}
