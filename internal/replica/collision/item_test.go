package collision

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/antipode-io/antipode"
)

func goldenItem() []Version {
	put := version(oregon, 300, 1_795_401_568_120, `{"id":{"S":"1"}}`)
	put.Stamp |= 3
	put.Home = "mumbai"
	tomb := version(mumbai, 7, 1_795_401_568_120, "")
	tomb.Epoch = 5
	return []Version{put, tomb}
}

func goldenEntry() Entry {
	return Entry{
		Version:     goldenItem()[0],
		Context:     antipode.Frontier{{Origin: mumbai, Seq: 6}, {Origin: oregon2, Seq: 300}},
		Uncertainty: 1500 * time.Microsecond,
	}
}

// Bytes on disk: a change here is a change of format.
const (
	goldenPut     = "12390a066f7265676f6e1801210700b5a4d3c2091f28ac0231030078cf4506a2014a066d756d62616952107b226964223a7b2253223a2231227d7d"
	goldenItemHex = "0801" + goldenPut +
		"12250a066d756d6261691201611801210700b5a4d3c2091f280731000078cf4506a20138054001"
	goldenEntryHex = "0801" + goldenPut +
		"1a0f0a066d756d62616912016118012006" + "1a0d0a066f7265676f6e180220ac02" + "20e0c65b"
)

func TestItemGolden(t *testing.T) {
	b := AppendItem([]byte("kept"), goldenItem())
	if got := hex.EncodeToString(b[4:]); got != goldenItemHex || string(b[:4]) != "kept" {
		t.Errorf("encoded:\n got %s\nwant %s", got, goldenItemHex)
	}
	raw, err := hex.DecodeString(goldenItemHex)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeItem(raw)
	if diff := cmp.Diff(goldenItem(), got); err != nil || diff != "" {
		t.Errorf("decoded: %v (-want +got):\n%s", err, diff)
	}
}

func TestEntryGolden(t *testing.T) {
	if got := hex.EncodeToString(AppendEntry(nil, goldenEntry())); got != goldenEntryHex {
		t.Errorf("encoded:\n got %s\nwant %s", got, goldenEntryHex)
	}
	raw, err := hex.DecodeString(goldenEntryHex)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEntry(raw)
	if diff := cmp.Diff(goldenEntry(), got); err != nil || diff != "" {
		t.Errorf("decoded: %v (-want +got):\n%s", err, diff)
	}
}

func TestItemFromTheFuture(t *testing.T) {
	// Fields of every wire type that this binary does not know, outside and inside a sibling.
	unknown := protowire.AppendTag(nil, 100, protowire.VarintType)
	unknown = protowire.AppendVarint(unknown, 1)
	unknown = protowire.AppendTag(unknown, 101, protowire.Fixed32Type)
	unknown = protowire.AppendFixed32(unknown, 1)
	unknown = protowire.AppendTag(unknown, 102, protowire.Fixed64Type)
	unknown = protowire.AppendFixed64(unknown, 1)
	unknown = protowire.AppendTag(unknown, 103, protowire.BytesType)
	unknown = protowire.AppendString(unknown, "new")

	want := goldenItem()[:1]
	inner := append(appendVersion(bytes.Clone(unknown), &want[0]), unknown...)
	b := append(bytes.Clone(unknown), appendUint(nil, itemFormat, Format)...)
	b = protowire.AppendBytes(protowire.AppendTag(b, itemSibling, protowire.BytesType), inner)
	got, err := DecodeItem(append(b, unknown...))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("unknown fields: %v (-want +got):\n%s", err, diff)
	}

	newer := appendUint(nil, itemFormat, Format+1)
	for name, b := range map[string][]byte{"alone": newer, "with what looks like damage": append(newer, 0xff)} {
		if _, err := DecodeItem(b); !errors.Is(err, ErrFormat) {
			t.Errorf("newer format %s: got %v, want ErrFormat", name, err)
		}
		if _, err := DecodeEntry(b); !errors.Is(err, ErrFormat) {
			t.Errorf("entry of a newer format %s: got %v, want ErrFormat", name, err)
		}
	}
}

func TestItemMalformed(t *testing.T) {
	good := AppendItem(nil, goldenItem())
	sibling := func(change func(*Version)) []byte {
		v := goldenItem()
		change(&v[0])
		return AppendItem(nil, v)
	}
	tests := map[string][]byte{
		"empty":                 nil,
		"no siblings":           AppendItem(nil, nil),
		"no format":             good[2:],
		"cut":                   good[:len(good)-1],
		"no region":             sibling(func(v *Version) { v.Dot.Origin.Region = "" }),
		"no sequence":           sibling(func(v *Version) { v.Dot.Seq = 0 }),
		"tombstone with a body": sibling(func(v *Version) { v.Delete = true }),
	}
	for name, b := range tests {
		if _, err := DecodeItem(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: DecodeItem says %v, want ErrMalformed", name, err)
		}
		if _, _, err := VisibleBody(b, antipode.RuleLastWriter, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: VisibleBody says %v, want ErrMalformed", name, err)
		}
	}
}

func TestVisibleBody(t *testing.T) {
	item := goldenItem()
	for _, rule := range antipode.Rules() {
		for _, siblings := range [][]Version{item, item[:1], item[1:]} {
			b := AppendItem(nil, siblings)
			want, _ := Visible(siblings, rule, priority)
			body, deleted, err := VisibleBody(b, rule, priority)
			if err != nil || deleted != want.Delete || !bytes.Equal(body, want.Body) {
				t.Errorf("%s over %v: got %q, %v, %v", rule, bodies(siblings), body, deleted, err)
			}
			v, ok, err := DecodeSingle(b)
			if err != nil || ok != (len(siblings) == 1) || ok && !cmp.Equal(v, siblings[0]) {
				t.Errorf("single of %d: got %v, %v, %v", len(siblings), v, ok, err)
			}
		}
	}
}

func TestSingleDoesNotAllocate(t *testing.T) {
	names := NewNames("oregon", "mumbai")
	item := goldenItem()[:1]
	b := AppendItem(nil, item)
	buf := make([]byte, 0, 2*len(b))
	n := testing.AllocsPerRun(100, func() {
		if _, _, err := VisibleBody(b, antipode.RuleLastWriter, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := names.DecodeSingle(b); err != nil {
			t.Fatal(err)
		}
		buf = AppendItem(buf[:0], item)
	})
	if n != 0 {
		t.Errorf("reading and writing an item with one sibling allocates %v times", n)
	}
}

func FuzzDecodeItem(f *testing.F) {
	item := goldenItem()
	for _, siblings := range [][]Version{item, item[:1], item[1:], nil} {
		f.Add(AppendItem(nil, siblings))
	}
	f.Add(AppendItem(nil, item)[:40])
	f.Add(appendUint(nil, itemFormat, Format+1))
	names := NewNames("oregon", "mumbai")
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeItem(b)
		named, namedErr := names.DecodeItem(b)
		if diff := cmp.Diff(got, named); diff != "" || (err == nil) != (namedErr == nil) {
			t.Fatalf("names make a difference: %v, %v\n%s", err, namedErr, diff)
		}
		body, deleted, bodyErr := VisibleBody(b, antipode.RuleLastWriter, nil)
		single, ok, singleErr := DecodeSingle(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrFormat) {
				t.Fatalf("unnamed error: %v", err)
			}
			if bodyErr == nil || singleErr == nil && ok {
				t.Fatalf("the fast paths read what DecodeItem refuses with: %v", err)
			}
			return
		}
		want, _ := Visible(got, antipode.RuleLastWriter, nil)
		if bodyErr != nil || deleted != want.Delete || !bytes.Equal(body, want.Body) {
			t.Fatalf("VisibleBody: %q, %v, %v, want %v", body, deleted, bodyErr, want)
		}
		if singleErr != nil || ok != (len(got) == 1) || ok && !cmp.Equal(single, got[0]) {
			t.Fatalf("DecodeSingle: %v, %v, %v, want %v", single, ok, singleErr, got)
		}
		again, err := DecodeItem(AppendItem(nil, got))
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Fatalf("written and read again: %v\n%s", err, diff)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(AppendEntry(nil, goldenEntry()))
	f.Add(AppendEntry(nil, Entry{Version: goldenItem()[1]}))
	f.Add(AppendEntry(nil, Entry{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrFormat) {
				t.Fatalf("unnamed error: %v", err)
			}
			return
		}
		again, err := DecodeEntry(AppendEntry(nil, got))
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Fatalf("written and read again: %v\n%s", err, diff)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	item := goldenItem()
	item[0].Body = []byte(`{"id":{"S":"` + strings.Repeat("x", 240) + `"}}`)
	one, two := AppendItem(nil, item[:1]), AppendItem(nil, item)
	names := NewNames("oregon", "mumbai")
	b.Run("body-of-one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := VisibleBody(one, antipode.RuleLastWriter, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("body-of-two", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := VisibleBody(two, antipode.RuleLastWriter, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("single", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := names.DecodeSingle(one); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendItem(b *testing.B) {
	item := goldenItem()[:1]
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendItem(buf[:0], item)
	}
}
