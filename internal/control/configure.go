package control

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Configure changes what can be changed of a table without moving its data.
type Configure struct {
	Name string `json:"name"`
	// Was and Options are the table's Options as the change was decided on, and as
	// they are to be.
	Was     json.RawMessage `json:"was,omitempty"`
	Options json.RawMessage `json:"options,omitempty"`
	// Protected replaces the table's protection. Nil leaves it.
	Protected *bool `json:"protected,omitempty"`
}

// configure refuses a change that was decided on what is no longer so: one of
// two at a time would undo the other.
func (s *State) configure(c Configure) error {
	old, ok := s.Tables[c.Name]
	if !ok {
		return fmt.Errorf("configure table %s: %w", c.Name, ErrNoTable)
	}
	if !bytes.Equal(old.Options, c.Was) {
		return fmt.Errorf("configure table %s: %w", c.Name, ErrTableBusy)
	}
	t := *old
	t.Options = c.Options
	if c.Protected != nil {
		t.Protected = *c.Protected
	}
	s.Tables[t.Name], s.byID[t.ID] = &t, &t
	return nil
}
