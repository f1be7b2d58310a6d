package attr

import (
	"cmp"
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"
	"pgregory.net/rapid"
)

func TestNormalizeNumber(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "-0": "0", "+0": "0", "0.00": "0", "0e125": "0",
		"1": "1", "+1": "1", "-1": "-1", "0042": "42", "0042.1200": "42.12", "1.50e3": "1500",
		".5": "0.5", "5.": "5", "-.5E1": "-5", "100": "100", "1E2": "100", "1e-3": "0.001",
		"12345678901234567890123456789012345678":  "12345678901234567890123456789012345678",
		"1.2345678901234567890123456789012345678": "1.2345678901234567890123456789012345678",
		"123456789012345678901234567890123456780": "123456789012345678901234567890123456780",
		"1E125": "1" + strings.Repeat("0", 125),
		"9.9999999999999999999999999999999999999E125": strings.Repeat("9", 38) + strings.Repeat("0", 88),
		"1e-130": "0." + strings.Repeat("0", 129) + "1",
		"000000000000000000000000000000000000000000001": "1",
	} {
		got, err := NormalizeNumber(in)
		if err != nil || got != want {
			t.Errorf("NormalizeNumber(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestNormalizeNumberRefuses(t *testing.T) {
	const (
		text      = "The parameter cannot be converted to a numeric value: "
		overflow  = "Number overflow. Attempting to store a number with magnitude larger than supported range"
		underflow = "Number underflow. Attempting to store a number with magnitude smaller than supported range"
		precision = "Attempting to store more than 38 significant digits in a Number"
	)
	for in, want := range map[string]string{
		"abc": text + "abc", "": text, " 1": text + " 1", "1 ": text + "1 ", "1.2.3": text + "1.2.3",
		"0x10": text + "0x10", "1e": text + "1e", "1e+": text + "1e+", "NaN": text + "NaN", "Infinity": text + "Infinity",
		"-": text + "-", ".": text + ".", "1_000": text + "1_000", "--1": text + "--1",
		"1e9223372036854775808": text + "1e9223372036854775808",
		"1e126":                 overflow, "-1e99999999999": overflow, "1e2147483648": overflow, "10e125": overflow, "0e126": overflow,
		"1e9223372036854775807": overflow, "1e-9223372036854775807": underflow,
		"1e-131": underflow, "1e-99999999999": underflow, "0e-131": underflow, "0.1e-130": underflow,
		"123456789012345678901234567890123456789":   precision,
		"1.23456789012345678901234567890123456789":  precision,
		"1000000000000000000000000000000000000.001": precision,
	} {
		_, err := NormalizeNumber(in)
		if err == nil || err.Error() != "ValidationException: "+want {
			t.Errorf("NormalizeNumber(%q): %v, want %q", in, err, want)
		}
	}
}

// The figures are those that clients measured with items of just under and just over 400 KB.
func TestNumberSize(t *testing.T) {
	for in, want := range map[string]int{
		"0": 1, "1": 2, "12": 2, "123": 3, "1234": 3, "12345678901234567890123456789012345678": 20, "0042": 2,
		"100": 2, "1010": 3, "0.0000001": 2, "1E125": 2, "1E-100": 2, "1.5": 3, "15": 2, "1.200": 3, "1.234": 4,
		"3.14159": 5, "123456": 4, "-1": 3, "100.5": 4,
	} {
		v, err := Number(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := Size(v); got != want {
			t.Errorf("Size(%s) = %d, want %d", in, got, want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	for _, c := range []struct {
		a, op, b, want string
	}{
		{"1", "+", "2", "3"},
		{"10", "-", "3", "7"},
		{"0.1", "+", "0.2", "0.3"},
		{"1", "-", "1", "0"},
		{"99999999999999999999999999999999999999", "+", "1", "1" + strings.Repeat("0", 38)},
		{"1e125", "-", "1e125", "0"},
		{"9e125", "+", "9e125", "Number overflow"},
		{"1e38", "+", "1", "more than 38 significant digits"},
		{"1e125", "+", "1e-130", "more than 38 significant digits"},
		{"-5", "+", "5.50", "0.5"},
	} {
		a, _ := Number(c.a)
		b, _ := Number(c.b)
		f := Add
		if c.op == "-" {
			f = Sub
		}
		got, err := f(a, b)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s %s: %v, want %q", c.a, c.op, c.b, err, c.want)
			}
			continue
		}
		if got.Str != c.want {
			t.Errorf("%s %s %s = %s, want %s", c.a, c.op, c.b, got.Str, c.want)
		}
	}
	if _, err := Add(String("1"), Value{Type: N, Str: "1"}); err == nil {
		t.Error("Add took a string")
	}
}

// numbers draws decimal text in DynamoDB's range.
func numbers() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := rapid.SampledFrom([]string{"", "-", "+"}).Draw(t, "sign")
		s += rapid.StringMatching(`[0-9]{1,19}`).Draw(t, "whole")
		if rapid.Bool().Draw(t, "point") {
			s += "." + rapid.StringMatching(`[0-9]{0,19}`).Draw(t, "fraction")
		}
		if rapid.Bool().Draw(t, "exponent") {
			s += "e" + rapid.StringMatching(`-?[0-9]{1,2}`).Draw(t, "e")
		}
		return s
	})
}

func decimalOf(t *rapid.T, s string) *apd.Decimal {
	d, _, err := apd.NewFromString(strings.TrimPrefix(s, "+"))
	if err != nil {
		t.Fatalf("apd reads %q: %v", s, err)
	}
	return d
}

func TestNumbersAgreeWithApd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := [2]string{numbers().Draw(t, "a"), numbers().Draw(t, "b")}
		var values [2]Value
		for i, s := range texts {
			v, err := Number(s)
			if err != nil {
				t.Fatalf("Number(%q): %v", s, err)
			}
			if decimalOf(t, v.Str).Cmp(decimalOf(t, s)) != 0 {
				t.Fatalf("%q became %q", s, v.Str)
			}
			if again, _ := NormalizeNumber(v.Str); again != v.Str {
				t.Fatalf("%q became %q and then %q", s, v.Str, again)
			}
			values[i] = v
		}
		want := decimalOf(t, texts[0]).Cmp(decimalOf(t, texts[1]))
		if got, ok := Compare(values[0], values[1]); !ok || got != want {
			t.Fatalf("Compare(%q, %q) = %d, want %d", texts[0], texts[1], got, want)
		}
		if Equal(values[0], values[1]) != (want == 0) {
			t.Fatalf("Equal(%q, %q) = %t", texts[0], texts[1], want != 0)
		}
		checkKeyOrder(t, values[0], values[1], want)
	})
}

func checkKeyOrder(t *rapid.T, a, b Value, want int) {
	x, errX := AppendKey(nil, a)
	y, errY := AppendKey(nil, b)
	if errX != nil || errY != nil {
		t.Fatal(errX, errY)
	}
	if got := cmp.Compare(string(x), string(y)); got != want {
		t.Fatalf("keys of %q and %q are % x and % x: %d, want %d", a.Str, b.Str, x, y, got, want)
	}
	back, err := DecodeKey(x, "N")
	if err != nil || back.Str != a.Str {
		t.Fatalf("DecodeKey(% x) = %q, %v, want %q", x, back.Str, err, a.Str)
	}
}

func FuzzNumberKey(f *testing.F) {
	for _, s := range []string{"0", "-1", "1", "1e125", "-1e-130", "12345678901234567890123456789012345678", "0.5", "100", "1e9999999999999"} {
		f.Add(s, []byte(s))
	}
	f.Add("", []byte{0x81, 0x82, 2})
	f.Add("", []byte{0x7f, 0x7d, 0xfd, 0xff})
	f.Fuzz(func(t *testing.T, s string, key []byte) {
		if v, err := Number(s); err == nil {
			b, err := AppendKey(nil, v)
			if err != nil {
				t.Fatalf("AppendKey(%q): %v", v.Str, err)
			}
			back, err := DecodeKey(b, "N")
			if err != nil || back.Str != v.Str {
				t.Fatalf("%q became % x and then %q, %v", v.Str, b, back.Str, err)
			}
		}
		v, err := DecodeKey(key, "N")
		if err != nil {
			return
		}
		if n, err := NormalizeNumber(v.Str); err != nil || n != v.Str {
			t.Fatalf("% x was decoded as %q, which is not normal: %q, %v", key, v.Str, n, err)
		}
		b, err := AppendKey(nil, v)
		if err != nil || string(b) != string(key) {
			t.Fatalf("% x was decoded as %q, which gives % x, %v", key, v.Str, b, err)
		}
	})
}

func TestKeysOfEdges(t *testing.T) {
	order := []string{
		"-9.9999999999999999999999999999999999999E125", "-1E125", "-101", "-100.1", "-100", "-99", "-1.01", "-1", "-0.1", "-1E-130",
		"0", "1E-130", "0.1", "0.11", "1", "1.01", "1.1", "2", "10", "11", "99", "100", "101", "1E125",
		"9.9999999999999999999999999999999999999E125",
	}
	var last []byte
	for i, s := range order {
		v, err := Number(s)
		if err != nil {
			t.Fatal(err)
		}
		key, err := AppendKey(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && string(key) <= string(last) {
			t.Errorf("key of %s is % x, not behind % x", s, key, last)
		}
		last = key
	}
	if _, err := AppendKey(nil, Bool(true)); err == nil {
		t.Error("AppendKey took a Boolean")
	}
	for _, v := range []Value{String("a\x00b"), Bytes([]byte{0, 255})} {
		b, err := AppendKey([]byte("x"), v)
		if err != nil || string(b) != "x"+v.Str {
			t.Errorf("AppendKey(%v) = %q, %v", v, b, err)
		}
		back, err := DecodeKey(b[1:], v.Type.String())
		if err != nil || !Equal(back, v) {
			t.Errorf("DecodeKey = %v, %v, want %v", back, err, v)
		}
	}
	if _, err := DecodeKey(nil, "BOOL"); err == nil {
		t.Error("DecodeKey knows keys of type BOOL")
	}
}
