package group

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/antipode-io/antipode/internal/engine"
)

func seedMessages(tb testing.TB) [][]byte {
	tb.Helper()
	data, err := encodeEntry(entry{From: oregon, Run: 1, Seq: 2, Command: putRegion("tokyo")})
	if err != nil {
		tb.Fatal(err)
	}
	snap, err := newMachine().encode()
	if err != nil {
		tb.Fatal(err)
	}
	id := func(v uint64) *uint64 { return &v }
	from, to := id(voterID(mumbai)), id(voterID(oregon))
	entries := []*raftpb.Entry{{Term: id(2), Index: id(2), Data: data, Type: raftpb.EntryNormal.Enum()}}
	voters := []uint64{voterID(oregon), voterID(mumbai), voterID(frankfurt)}
	var out [][]byte
	for _, m := range []*raftpb.Message{
		{Type: raftpb.MsgApp.Enum(), From: from, To: to, Term: id(2), LogTerm: id(1), Index: id(1), Commit: id(2), Entries: entries},
		{Type: raftpb.MsgProp.Enum(), From: from, To: to, Entries: entries},
		{Type: raftpb.MsgHeartbeat.Enum(), From: from, To: to, Term: id(2), Commit: id(99)},
		{Type: raftpb.MsgVote.Enum(), From: from, To: to, Term: id(3), Index: id(1), LogTerm: id(1)},
		{Type: raftpb.MsgSnap.Enum(), From: from, To: to, Term: id(2), Snapshot: &raftpb.Snapshot{Data: snap, Metadata: &raftpb.SnapshotMetadata{Index: id(9), Term: id(2), ConfState: &raftpb.ConfState{Voters: voters}}}},
	} {
		b, err := encodeRaft(m)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b)
	}
	b, err := encodeHello(hello{Ask: 1, Commit: 7, Last: 9, Term: 3})
	if err != nil {
		tb.Fatal(err)
	}
	return append(out, b)
}

// FuzzReceive: no bytes from a peer end the voter or the process.
func FuzzReceive(f *testing.F) {
	for _, m := range seedMessages(f) {
		f.Add(m)
	}
	f.Add([]byte{})
	f.Add([]byte{kindRaft})
	f.Add([]byte{9, 9, 9})
	store := openStore(f, vfs.NewMem())
	defer store.Close()
	f.Fuzz(func(t *testing.T, b []byte) {
		wipe(t, store)
		core, err := OpenCore(Config{Self: oregon, Voters: three(), Store: store})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := core.Receive(mumbai, b); err != nil {
				t.Fatalf("ended by a message: %v", err)
			}
		}
		if err := core.Tick(); err != nil {
			t.Fatal(err)
		}
		// What it has stored, it can read.
		if _, err := OpenCore(Config{Self: oregon, Voters: three(), Store: store}); err != nil {
			t.Fatal(err)
		}
	})
}

func wipe(tb testing.TB, s engine.Store) {
	tb.Helper()
	b := s.NewBatch()
	b.DeleteRange([]byte("r"), []byte("s"))
	c, err := s.Apply(b)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// FuzzFrame: the reader takes what the writer wrote, and nothing makes it panic
// or take more memory than there are bytes.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03abc"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xffabc"))
	f.Add([]byte("\x04\x00\x00\x00abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		rest := b
		for {
			msg, err := readFrame(r)
			if err != nil {
				return
			}
			var w bytes.Buffer
			if err := writeFrame(&w, msg); err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(rest, w.Bytes()) {
				t.Fatalf("read %q, which is not what was sent", msg)
			}
			rest = rest[w.Len():]
		}
	})
}

func TestBadMessages(t *testing.T) {
	for _, b := range seedMessages(t) {
		if _, _, err := decodeMessage(b); err != nil {
			t.Errorf("a good message was refused: %v", err)
		}
	}
	id := func(v uint64) *uint64 { return &v }
	for name, m := range map[string]*raftpb.Message{
		"local":          {Type: raftpb.MsgHup.Enum()},
		"storage":        {Type: raftpb.MsgStorageAppend.Enum()},
		"empty proposal": {Type: raftpb.MsgProp.Enum()},
		"odd proposal":   {Type: raftpb.MsgProp.Enum(), Entries: []*raftpb.Entry{{Data: []byte("{}")}}},
		"voters":         {Type: raftpb.MsgApp.Enum(), Entries: []*raftpb.Entry{{Index: id(1), Type: raftpb.EntryConfChange.Enum()}}},
		"hole":           {Type: raftpb.MsgApp.Enum(), Index: id(1), Entries: []*raftpb.Entry{{Index: id(5)}}},
		"odd snapshot":   {Type: raftpb.MsgSnap.Enum(), Snapshot: &raftpb.Snapshot{Data: []byte("{}")}},
	} {
		b, err := encodeRaft(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decodeMessage(b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
