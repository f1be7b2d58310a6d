package attr

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Limits of a number: DynamoDB's own.
const (
	maxDigits   = 38   // significant digits
	maxExponent = 125  // of the leading digit: 9.99E+125
	minExponent = -130 // 1E-130
)

// decimal is a number's canonical parts: its value is ±0.DIGITS × 10^point,
// with neither leading nor trailing zeros in digits. Zero has no digits.
type decimal struct {
	neg    bool
	n      int // digits in use
	point  int
	digits [maxDigits]byte // '0' to '9'
}

func errNotNumeric(s string) *Error {
	return Invalid("The parameter cannot be converted to a numeric value: %s", s)
}

func errOverflow() *Error {
	return Invalid("Number overflow. Attempting to store a number with magnitude larger than supported range")
}

func errUnderflow() *Error {
	return Invalid("Number underflow. Attempting to store a number with magnitude smaller than supported range")
}

func errPrecision() *Error {
	return Invalid("Attempting to store more than 38 significant digits in a Number")
}

// mantissa is what the scan over the digits before the exponent finds.
type mantissa struct {
	decimal
	end     int  // index of the first byte behind it
	total   int  // digits, zeros included
	before  int  // digits before the point
	first   int  // place of the first significant digit among all digits
	tooLong bool // more than maxDigits significant digits
	zeros   int  // zeros seen since the last digit that was not
}

func (m *mantissa) add(c byte) {
	m.total++
	if c == '0' {
		if m.n > 0 {
			m.zeros++
		}
		return
	}
	if m.n == 0 {
		m.first = m.total - 1
	}
	if m.tooLong || m.n+m.zeros+1 > maxDigits {
		m.tooLong = true
		return
	}
	for ; m.zeros > 0; m.zeros-- {
		m.digits[m.n] = '0'
		m.n++
	}
	m.digits[m.n] = c
	m.n++
}

// scan reads sign, digits and point.
func (m *mantissa) scan(s string) {
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		m.neg = s[i] == '-'
		i++
	}
	point := false
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && !point {
			point = true
			m.before = m.total
			continue
		}
		if !isDigit(c) {
			break
		}
		m.add(c)
	}
	if !point {
		m.before = m.total
	}
	m.end = i
}

// exponentOf reads "e-12" (or nothing at all) and says whether it is one. What does
// not fit an int64 is none, as in DynamoDB; the rest is cut down to a size that is out of
// every range and safe to calculate with.
func exponentOf(s string) (exp int, ok bool) {
	if s == "" {
		return 0, true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	neg := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	if s == "" {
		return 0, false
	}
	var u uint64
	for i := range len(s) {
		c := s[i]
		if !isDigit(c) || u > math.MaxInt64/10 {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
		if u > math.MaxInt64 {
			return 0, false
		}
	}
	exp = int(min(u, 1<<40))
	if neg {
		exp = -exp
	}
	return exp, true
}

// parseDecimal reads and validates decimal text.
func parseDecimal(s string) (decimal, error) {
	var m mantissa
	m.scan(s)
	exp, ok := exponentOf(s[m.end:])
	if !ok || m.total == 0 {
		return decimal{}, errNotNumeric(s)
	}
	leading := exp // exponent of the leading digit
	if m.n > 0 {
		m.point = m.before - m.first + exp
		leading = m.point - 1
	}
	switch {
	case leading > maxExponent:
		return decimal{}, errOverflow()
	case leading < minExponent:
		return decimal{}, errUnderflow()
	case m.tooLong:
		return decimal{}, errPrecision()
	}
	if m.n == 0 {
		m.neg = false
	}
	return m.decimal, nil
}

// append appends the number in plain digits, as DynamoDB prints every number.
func (d *decimal) append(dst []byte) []byte {
	if d.n == 0 {
		return append(dst, '0')
	}
	if d.neg {
		dst = append(dst, '-')
	}
	if d.point <= 0 {
		dst = append(dst, '0', '.')
		for range -d.point {
			dst = append(dst, '0')
		}
		return append(dst, d.digits[:d.n]...)
	}
	if d.point < d.n {
		dst = append(dst, d.digits[:d.point]...)
		dst = append(dst, '.')
		return append(dst, d.digits[d.point:d.n]...)
	}
	dst = append(dst, d.digits[:d.n]...)
	for range d.point - d.n {
		dst = append(dst, '0')
	}
	return dst
}

// compare orders exactly.
func (d *decimal) compare(e *decimal) int {
	if s := cmp.Compare(d.sign(), e.sign()); s != 0 || d.n == 0 {
		return s
	}
	c := cmp.Compare(d.point, e.point)
	if c == 0 {
		c = strings.Compare(string(d.digits[:d.n]), string(e.digits[:e.n]))
	}
	if d.neg {
		return -c
	}
	return c
}

func (d *decimal) sign() int {
	switch {
	case d.n == 0:
		return 0
	case d.neg:
		return -1
	default:
		return 1
	}
}

// plainInteger tells whether s is an integer in normal form already.
func plainInteger[T string | []byte](s T) bool {
	digits := s
	if len(s) > 0 && s[0] == '-' {
		digits = s[1:]
	}
	if len(digits) == 0 || len(digits) > maxDigits || (digits[0] == '0' && (len(digits) > 1 || len(s) > 1)) {
		return false
	}
	for i := range len(digits) {
		if !isDigit(digits[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// NormalizeNumber validates decimal text ("+1.50e3") and returns the number as
// DynamoDB prints it: plain digits without exponent or needless zeros ("1500").
// It takes 38 significant digits and magnitudes from 1E-130 to 9.99E+125.
func NormalizeNumber(s string) (string, error) {
	if plainInteger(s) {
		return s, nil
	}
	d, err := parseDecimal(s)
	if err != nil {
		return "", err
	}
	var buf [176]byte // sign, "0.", 130 zeros, 38 digits
	return string(d.append(buf[:0])), nil
}

// compareNumbers orders two numbers in normal form.
func compareNumbers(a, b string) int {
	if a == b {
		return 0
	}
	x, errX := parseDecimal(a)
	y, errY := parseDecimal(b)
	if errX != nil || errY != nil {
		return strings.Compare(a, b)
	}
	return x.compare(&y)
}

// numberSize is what a number in normal form costs: a byte, another for two digits on
// either side of the point, another for a sign. The rule that AWS publishes differs;
// this one is measured (see the sizes in number_test.go).
func numberSize(s string) int {
	if plainInteger(s) {
		size := 1
		if s[0] == '-' {
			s = s[1:]
			size++
		}
		return size + (len(strings.TrimRight(s, "0"))+1)/2
	}
	d, err := parseDecimal(s)
	if err != nil || d.n == 0 {
		return 1
	}
	whole := min(max(d.point, 0), d.n)
	size := 1 + (whole+1)/2 + (d.n-whole+1)/2
	if d.neg {
		size++
	}
	return size
}

// Add adds two numbers. A result of more than 38 digits or beyond the range of
// numbers is an error, as is any other type.
func Add(a, b Value) (Value, error) { return calculate(a, b, (*apd.Context).Add) }

// Sub subtracts number b from number a, see Add.
func Sub(a, b Value) (Value, error) { return calculate(a, b, (*apd.Context).Sub) }

type operation func(c *apd.Context, d, x, y *apd.Decimal) (apd.Condition, error)

func calculate(a, b Value, op operation) (Value, error) {
	if a.Type != N || b.Type != N {
		return Value{}, Invalid("An operand in the update expression has an incorrect data type")
	}
	var x, y, z apd.Decimal
	_, _, errX := x.SetString(a.Str)
	_, _, errY := y.SetString(b.Str)
	if err := errors.Join(errX, errY); err != nil {
		return Value{}, fmt.Errorf("calculate with %q and %q: %w", a.Str, b.Str, err)
	}
	// Wide enough for every sum to be exact, so that the check of the result
	// sees all of its digits.
	exact := apd.BaseContext.WithPrecision(maxExponent - minExponent + maxDigits + 2)
	if _, err := op(exact, &z, &x, &y); err != nil {
		return Value{}, fmt.Errorf("calculate with %q and %q: %w", a.Str, b.Str, err)
	}
	return Number(z.Text('f'))
}
