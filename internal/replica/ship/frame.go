package ship

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/antipode-io/antipode"
)

// A frame is a kind, a flag, the length of the payload, and the payload. See
// docs/format/ship.md.
const (
	frameHello     = 1 // sender: who speaks, on which stripe
	frameWelcome   = 2 // receiver: what it holds
	frameEntries   = 3 // sender: entries, each after its length
	frameAck       = 4 // receiver: what it holds durably by now
	frameRewind    = 5 // receiver: send again from here
	frameHeartbeat = 6 // sender: its clock, and how far it is
	frameCopy      = 7 // sender: offers a copy of a shard, then its rows
	frameAnswer    = 8 // receiver: what it does about an offer, or where to go on

	flagZstd = 1

	frameHeader = 6
	// maxFrame bounds what a peer can make us read at once: an entry of the
	// largest item, with room to spare.
	maxFrame = 8 << 20
	// minCompress is the payload from which compressing pays.
	minCompress = 1 << 10

	protocolVersion = 1
)

type hello struct {
	Version int    `json:"version"`
	Origin  string `json:"origin"`
	Stripe  int    `json:"stripe"`
	Stripes int    `json:"stripes"`
}

// holding is a welcome or an ack.
type holding struct {
	Version int    `json:"version,omitempty"`
	Origin  string `json:"origin,omitempty"`
	// Frontiers are durable ones, by shard and origin. In an ack, only shards
	// that changed.
	Frontiers map[string]map[string]uint64 `json:"frontiers,omitempty"`
	Hears     []antipode.Region            `json:"hears"`
	// Filling says that the sender goes by the frontiers, and stability does not.
	Filling bool `json:"filling,omitempty"`
}

type rewind struct {
	Shard  string `json:"shard"`
	Origin string `json:"origin"`
	Seq    uint64 `json:"seq"` // the last one held
}

type heartbeat struct {
	Origin antipode.Origin           `json:"-"`
	Stamp  antipode.Stamp            `json:"stamp"`
	Seqs   map[antipode.Shard]uint64 `json:"seqs"`
}

func frontiersOf(f map[antipode.Shard]antipode.Frontier) map[string]map[string]uint64 {
	out := make(map[string]map[string]uint64, len(f))
	for id, frontier := range f {
		out[id.String()] = frontier.Marks()
	}
	return out
}

func (h *holding) frontiers() (map[antipode.Shard]antipode.Frontier, error) {
	out := make(map[antipode.Shard]antipode.Frontier, len(h.Frontiers))
	for text, marks := range h.Frontiers {
		id, err := antipode.ParseShard(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if out[id], err = frontierOf(marks); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// codec compresses and expands payloads. It is safe for concurrent use, and all
// connections of a region share one: its tables stay in the processor's cache.
// It owns no goroutine.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxFrame))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return &codec{enc, dec}, nil
}

// seal makes a frame of a payload, which is compressed if that is wanted and pays.
func (c *codec) seal(kind byte, payload []byte, compress bool) []byte {
	flags := byte(0)
	out := make([]byte, frameHeader, frameHeader+len(payload))
	if compress && len(payload) >= minCompress {
		flags = flagZstd
		out = c.enc.EncodeAll(payload, out)
	} else {
		out = append(out, payload...)
	}
	out[0], out[1] = kind, flags
	binary.BigEndian.PutUint32(out[2:], uint32(len(out)-frameHeader))
	return out
}

func (c *codec) sealJSON(kind byte, v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	return c.seal(kind, payload, true), nil
}

// open takes a frame apart.
func (c *codec) open(frame []byte) (kind byte, payload []byte, err error) {
	if len(frame) < frameHeader || binary.BigEndian.Uint32(frame[2:]) != uint32(len(frame)-frameHeader) {
		return 0, nil, fmt.Errorf("%w: frame of %d bytes", ErrProtocol, len(frame))
	}
	kind, payload = frame[0], frame[frameHeader:]
	if frame[1]&flagZstd != 0 {
		if payload, err = c.dec.DecodeAll(payload, nil); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
	return kind, payload, nil
}

func openJSON(payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

// readFrame reads one frame, header included.
func readFrame(r io.Reader) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[2:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: frame of %d bytes, at most %d are allowed", ErrProtocol, n, maxFrame)
	}
	frame := make([]byte, frameHeader+int(n))
	copy(frame, head[:])
	if _, err := io.ReadFull(r, frame[frameHeader:]); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return frame, nil
}
