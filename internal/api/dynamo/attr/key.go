package attr

import (
	"fmt"
	"slices"
)

// An encoded number is a class byte, and unless it is zero the decimal point's
// place in one byte, and two digits in each byte after it, as 1 to 100. All but the class
// is inverted for negative numbers, which then end with a byte that is higher than
// any of digits: of two numbers that begin alike, the shorter is smaller in amount.
const (
	classNegative = 0x7f
	classZero     = 0x80
	classPositive = 0x81

	// pointBias makes the places of the point from 1E-130 to 9.99E+125 a byte.
	pointBias = -(minExponent + 1)

	negativeEnd = 0xff
)

// Limits of key values in bytes.
const (
	MaxPartitionKeySize = 2048
	MaxSortKeySize      = 1024
)

// AppendKey appends bytes that sort as the values of v's type do. Strings and
// binaries are themselves, so that a prefix of a value is a prefix of its bytes;
// equal numbers give equal bytes however they were written. The bytes don't say
// where they end. Types other than S, N and B are an error.
func AppendKey(dst []byte, v Value) ([]byte, error) {
	switch v.Type {
	case S, B:
		return append(dst, v.Str...), nil
	case N:
		d, err := parseDecimal(v.Str)
		if err != nil {
			return dst, err
		}
		return d.appendKey(dst), nil
	default:
		return dst, Invalid("One or more parameter values were invalid: "+
			"Type mismatch for key: expected one of S, N and B, actual: %s", v.Type)
	}
}

func (d *decimal) appendKey(dst []byte) []byte {
	switch d.sign() {
	case 0:
		return append(dst, classZero)
	case 1:
		return d.appendAmount(append(dst, classPositive))
	}
	from := len(dst) + 1
	dst = d.appendAmount(append(dst, classNegative))
	for i := from; i < len(dst); i++ {
		dst[i] = ^dst[i]
	}
	return append(dst, negativeEnd)
}

func (d *decimal) appendAmount(dst []byte) []byte {
	dst = append(dst, byte(d.point+pointBias))
	for i := 0; i < d.n; i += 2 {
		pair := 10 * (d.digits[i] - '0')
		if i+1 < d.n {
			pair += d.digits[i+1] - '0'
		}
		dst = append(dst, pair+1)
	}
	return dst
}

// DecodeKey is the inverse of AppendKey for a value of the type "S", "N" or "B".
// Bytes that AppendKey does not make are an error.
func DecodeKey(b []byte, typ string) (Value, error) {
	switch TypeOf(typ) {
	case S:
		return Value{Type: S, Str: string(b)}, nil
	case B:
		return Value{Type: B, Str: string(b)}, nil
	case N:
		d, err := decodeNumber(b)
		if err != nil {
			return Value{}, err
		}
		var buf [176]byte
		return Value{Type: N, Str: string(d.append(buf[:0]))}, nil
	default:
		return Value{}, fmt.Errorf("decode key: %q is no type of keys: it is S, N or B", typ)
	}
}

func decodeNumber(b []byte) (decimal, error) {
	bad := func() (decimal, error) {
		return decimal{}, fmt.Errorf("decode key: % x is no encoded number", b)
	}
	if len(b) == 1 && b[0] == classZero {
		return decimal{}, nil
	}
	if len(b) < 3 {
		return bad()
	}
	d := decimal{neg: b[0] == classNegative}
	amount := b[1:]
	switch {
	case d.neg && b[len(b)-1] == negativeEnd:
		amount = slices.Clone(b[1 : len(b)-1])
		for i := range amount {
			amount[i] = ^amount[i]
		}
	case b[0] != classPositive:
		return bad()
	}
	if len(amount) < 2 || len(amount)-1 > maxDigits/2 {
		return bad()
	}
	d.point = int(amount[0]) - pointBias
	for _, pair := range amount[1:] {
		if pair < 1 || pair > 100 {
			return bad()
		}
		d.digits[d.n] = (pair-1)/10 + '0'
		d.digits[d.n+1] = (pair-1)%10 + '0'
		d.n += 2
	}
	if d.digits[d.n-1] == '0' {
		d.n-- // the filling of an odd digit
	}
	if d.digits[0] == '0' || d.digits[d.n-1] == '0' {
		return bad()
	}
	return d, nil
}

// CheckKey refuses what can't be the value of the key attribute name in an item,
// whose declared type is typ ("S", "N" or "B"): another type, an empty value.
func CheckKey(name, typ string, v Value) error {
	if v.Type.String() != typ {
		return Invalid("One or more parameter values were invalid: "+
			"Type mismatch for key %s expected: %s actual: %s", name, typ, v.Type)
	}
	if v.Str != "" {
		return nil
	}
	kind := "string"
	if v.Type == B {
		kind = "binary"
	}
	return Invalid("One or more parameter values are not valid. "+
		"The AttributeValue for a key attribute cannot contain an empty %s value. Key: %s", kind, name)
}

// CheckPartitionKeySize refuses a partition key value that is too long.
func CheckPartitionKeySize(v Value) error {
	if len(v.Str) > MaxPartitionKeySize && v.Type != N {
		return Invalid("One or more parameter values were invalid: "+
			"Size of hashkey has exceeded the maximum size limit of%d bytes", MaxPartitionKeySize)
	}
	return nil
}

// CheckSortKeySize refuses a sort key value that is too long.
func CheckSortKeySize(v Value) error {
	if len(v.Str) > MaxSortKeySize && v.Type != N {
		return Invalid("One or more parameter values were invalid: "+
			"Aggregated size of all range keys has exceeded the size limit of %d bytes", MaxSortKeySize)
	}
	return nil
}
