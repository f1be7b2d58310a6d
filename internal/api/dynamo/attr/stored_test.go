package attr

import (
	"strings"
	"testing"
)

func storedItems() []string {
	return []string{
		`{}`, `{"id":{"S":"a"},"n":{"N":"-1.5"}}`, `{"b":{"B":""},"c":{"B":"YQ=="},"d":{"B":"YWI="},"e":{"B":"YWJj"}}`,
		`{"e":{"S":"\"\\\n\r\t\u0001é漢🙂"},"k\"ey":{"BOOL":false},"z":{"NULL":true}}`,
		`{"m":{"M":{"a":{"L":[]},"b":{"L":[{"S":"x"},{"M":{}},{"N":"100"}]}}},"ns":{"NS":["-3","2.25"]},"ss":{"SS":["","ab"]},"bs":{"BS":["","YWI="]}}`,
	}
}

func TestStoredSize(t *testing.T) {
	for _, json := range storedItems() {
		it, err := ParseItem([]byte(json))
		if err != nil {
			t.Fatal(err)
		}
		stored := AppendItem(nil, it)
		got, err := StoredSize(stored)
		if want := ItemSize(it); err != nil || got != want {
			t.Errorf("%s: %d %v, want %d", stored, got, err, want)
		}
		for i := range stored {
			if n, err := StoredSize(stored[:i]); err == nil {
				t.Errorf("%s is measured as %d", stored[:i], n)
			}
		}
	}
}

func FuzzStoredSize(f *testing.F) {
	for _, json := range storedItems() {
		f.Add([]byte(json))
	}
	f.Fuzz(func(t *testing.T, json []byte) {
		_, _ = StoredSize(json) // whatever comes, it returns
		it, err := ParseItem(json)
		if err != nil {
			return
		}
		stored := AppendItem(nil, it)
		if got, err := StoredSize(stored); err != nil || got != ItemSize(it) {
			t.Errorf("%s: %d %v, want %d", stored, got, err, ItemSize(it))
		}
	})
}

func BenchmarkStoredSize(b *testing.B) {
	stored := []byte(`{"id":{"S":"user-0001"},"n":{"N":"17"},"pad":{"S":"` + strings.Repeat("x", 900) + `"}}`)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = StoredSize(stored)
	}
}
