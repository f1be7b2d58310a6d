package table

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// Key prefixes in the store; docs/format/store.md lists all.
const (
	prefixItem      = 'i' // table, hash, key -> siblings
	prefixHistory   = 'k' // table, length of key, key, origin, 0, sequence -> nothing, or the entry kept after a cut
	prefixCollision = 'c' // table, key -> nothing: the item has, or had, siblings
	prefixGrant     = 'b' // table, key -> who may give birth to the item
	prefixTenure    = 'e' // shard, role, epoch, holder -> what is known of the tenure
	prefixSeal      = 's' // shard, role -> the tenure below which the role is sealed
	prefixPending   = 'p' // table, key -> the version that was taken out, until the item is known again
	prefixStranded  = 'x' // shard, origin, 0, sequence -> a stranded write
	prefixForced    = 'a' // set, region that was lost -> a forced failover that the group has not adopted
)

// A primary key is encoded as the partition key with every 0x00 made 0x00 0xff,
// then 0x00 0x01, then the sort key as it is. So keys of one partition are
// together, in the order of their sort keys, and no partition's keys are a
// prefix of another's.
const (
	escape     = 0x00
	escaped    = 0xff
	terminator = 0x01
)

// place is a key with what follows from it: where the item lies.
type place struct {
	shard antipode.Shard
	key   []byte // as in Mutation.Key; shares memory with item
	item  []byte // key of the item's row
}

const itemHeader = 1 + 4 + 4 // prefix, table, upper half of the hash

func appendPartition(dst, partition []byte) []byte {
	for {
		i := bytes.IndexByte(partition, escape)
		if i < 0 {
			break
		}
		dst = append(dst, partition[:i+1]...)
		dst = append(dst, escaped)
		partition = partition[i+1:]
	}
	dst = append(dst, partition...)
	return append(dst, escape, terminator)
}

// splitKey takes an encoded key apart again.
func splitKey(key []byte) (Key, error) {
	var k Key
	for rest := key; ; {
		i := bytes.IndexByte(rest, escape)
		if i < 0 || i+1 >= len(rest) {
			return Key{}, fmt.Errorf("%w: item key %x", engine.ErrCorrupt, key)
		}
		switch rest[i+1] {
		case escaped:
			k.Partition = append(k.Partition, rest[:i+1]...)
		case terminator:
			k.Partition = append(k.Partition, rest[:i]...)
			if sort := rest[i+2:]; len(sort) > 0 {
				k.Sort = sort
			}
			return k, nil
		default:
			return Key{}, fmt.Errorf("%w: item key %x", engine.ErrCorrupt, key)
		}
		rest = rest[i+2:]
	}
}

// partitionLen returns the length of the partition's part of an encoded key.
func partitionLen(key []byte) int {
	for i := 0; i+1 < len(key); i++ {
		if key[i] == escape {
			if key[i+1] == terminator {
				return i + 2
			}
			i++
		}
	}
	return len(key)
}

// locate encodes the key and finds where it lies.
func locate(t *TableRef, k Key) place {
	item := make([]byte, itemHeader, itemHeader+len(k.Partition)+len(k.Sort)+8)
	item = appendPartition(item, k.Partition)
	return finish(t, append(item, k.Sort...), len(item)-itemHeader)
}

// locateEncoded finds where an encoded key lies.
func locateEncoded(t *TableRef, key []byte) place {
	item := make([]byte, itemHeader, itemHeader+len(key))
	return finish(t, append(item, key...), partitionLen(key))
}

func finish(t *TableRef, item []byte, partition int) place {
	key := item[itemHeader:]
	h := xxhash.Sum64(key[:partition])
	item[0] = prefixItem
	binary.BigEndian.PutUint32(item[1:], uint32(t.ID))
	binary.BigEndian.PutUint32(item[5:], uint32(h>>32))
	return place{shard: t.Shards() | antipode.Shard(h/(1<<64/antipode.ShardsPerSet)), key: key, item: item}
}

func tablePrefix(prefix byte, id antipode.TableID) []byte {
	return binary.BigEndian.AppendUint32([]byte{prefix}, uint32(id))
}

// after returns the first key that does not start with the prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func keyed(prefix byte, id antipode.TableID, key []byte) []byte {
	return append(tablePrefix(prefix, id), key...)
}

func historyPrefix(id antipode.TableID, key []byte) []byte {
	const dot = 48 // room for what follows in most history keys
	b := make([]byte, 0, 1+4+binary.MaxVarintLen32+len(key)+dot)
	b = binary.BigEndian.AppendUint32(append(b, prefixHistory), uint32(id))
	return append(binary.AppendUvarint(b, uint64(len(key))), key...)
}

func historyKey(id antipode.TableID, key []byte, d antipode.Dot) []byte {
	b := append(historyPrefix(id, key), d.Origin.String()...)
	return binary.BigEndian.AppendUint64(append(b, 0), d.Seq)
}

// historyDot reads the dot that follows the prefix in a history key.
func historyDot(row []byte, prefix int, shard antipode.Shard) (antipode.Dot, error) {
	text, seq, ok := bytes.Cut(row[prefix:], []byte{0})
	if !ok || len(seq) != 8 {
		return antipode.Dot{}, fmt.Errorf("%w: history key %x", engine.ErrCorrupt, row)
	}
	o, err := antipode.ParseOrigin(string(text))
	if err != nil {
		return antipode.Dot{}, fmt.Errorf("%w: history key %x", engine.ErrCorrupt, row)
	}
	return antipode.Dot{Origin: o, Shard: shard, Seq: binary.BigEndian.Uint64(seq)}, nil
}

// Arbiter is the region that a key falls to, of those that keep the table: the
// same wherever it is asked, whatever state regions are in.
func Arbiter(t *TableRef, k Key) antipode.Region { return arbiterOf(t, locate(t, k).key) }

// arbiterOf picks the region that serialises births of the key: the highest
// random weight among the table's replicas (Thaler and Ravishankar, 1998).
func arbiterOf(t *TableRef, key []byte) antipode.Region {
	var best antipode.Region
	var weight uint64
	for _, r := range t.Replicas {
		d := xxhash.New()
		_, _ = d.WriteString(string(r)) // hash.Hash never returns an error
		_, _ = d.Write([]byte{0})
		_, _ = d.Write(key)
		if w := d.Sum64(); best == "" || w > weight {
			best, weight = r, w
		}
	}
	return best
}
