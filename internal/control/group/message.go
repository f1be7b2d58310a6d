package group

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// The first byte of a message says what it is.
const (
	kindRaft  = 1 // a raftpb.Message
	kindHello = 2 // a hello, as JSON
)

// maxCommand bounds an entry's bytes.
const maxCommand = 1 << 20

// hello is what voters tell each other beside Raft: that they are there, and
// how much they have. See Core.join.
type hello struct {
	Ask    uint64 `json:"ask,omitempty"`  // answer with your own, and this number in it
	Echo   uint64 `json:"echo,omitempty"` // the number asked with
	Joined bool   `json:"joined,omitempty"`
	Leader bool   `json:"leader,omitempty"`
	Term   uint64 `json:"term"`
	Commit uint64 `json:"commit"`
	Last   uint64 `json:"last"` // index of the last entry
}

func encodeHello(h hello) ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode hello: %w", err)
	}
	return append([]byte{kindHello}, b...), nil
}

func encodeRaft(m *raftpb.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{}.MarshalAppend([]byte{kindRaft}, m)
	if err != nil {
		return nil, fmt.Errorf("encode raft message: %w", err)
	}
	return b, nil
}

// decodeMessage reads what encodeHello or encodeRaft wrote; one of its results
// is set when there is no error.
func decodeMessage(b []byte) (*raftpb.Message, *hello, error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("%w: it is empty", ErrMessage)
	}
	switch b[0] {
	case kindRaft:
		m := &raftpb.Message{}
		if err := proto.Unmarshal(b[1:], m); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMessage, err)
		}
		if err := checkRaft(m); err != nil {
			return nil, nil, err
		}
		return m, nil, nil
	case kindHello:
		h := &hello{}
		if err := json.Unmarshal(b[1:], h); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMessage, err)
		}
		return nil, h, nil
	}
	return nil, nil, fmt.Errorf("%w: kind %d; the peer may be newer than this region", ErrMessage, b[0])
}

// checkRaft refuses what voters never send each other. Raft trusts its input and
// would panic on some of it.
func checkRaft(m *raftpb.Message) error {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgHeartbeat,
		raftpb.MsgHeartbeatResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTimeoutNow:
	case raftpb.MsgProp:
		if len(m.GetEntries()) == 0 {
			return fmt.Errorf("%w: a proposal of nothing", ErrMessage)
		}
		for _, e := range m.GetEntries() {
			if _, err := decodeEntry(e.GetData()); err != nil {
				return err
			}
		}
	case raftpb.MsgSnap:
		if _, err := decodeMachine(m.GetSnapshot().GetData()); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: %s does not travel between voters", ErrMessage, m.GetType())
	}
	for i, e := range m.GetEntries() {
		if e.GetType() != raftpb.EntryNormal {
			return fmt.Errorf("%w: an entry that changes the voters", ErrMessage)
		}
		if m.GetType() == raftpb.MsgApp && e.GetIndex() != m.GetIndex()+uint64(i)+1 {
			return fmt.Errorf("%w: entries out of order", ErrMessage)
		}
	}
	return nil
}

// entryFormat is the version of what stands in an entry.
const entryFormat = 1

// entry is one proposed command. From and Seq name the request, so that one
// that was sent twice is applied once. Run tells requests of a voter that lost its disk,
// and so counts from the start again, from those that it had made before.
type entry struct {
	Format  int             `json:"v"`
	From    antipode.Region `json:"from"`
	Run     uint64          `json:"run"`
	Seq     uint64          `json:"seq"`
	Command control.Command `json:"command"`
}

func encodeEntry(e entry) ([]byte, error) {
	e.Format = entryFormat
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if len(b) > maxCommand {
		return nil, fmt.Errorf("%w: %d bytes, %d at most", ErrTooLarge, len(b), maxCommand)
	}
	return b, nil
}

// decodeEntry is strict: a field that this version does not know would make its
// state differ from the others', so the entry must not be applied here.
func decodeEntry(b []byte) (entry, error) {
	var e entry
	if err := decodeStrict(b, &e); err != nil {
		return entry{}, err
	}
	if e.Format != entryFormat {
		return entry{}, fmt.Errorf("%w: entry format %d, this one reads %d: upgrade this region", ErrNewer, e.Format, entryFormat)
	}
	return e, nil
}

func decodeStrict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w, or data is damaged: upgrade this region: %w", ErrNewer, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: bytes after the end", ErrMessage)
	}
	return nil
}
