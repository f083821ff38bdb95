package report

import (
	"encoding/json"
	"math"
	"strconv"
)

// Number is a figure of a report. JSON has no NaN and no infinity, which a
// training that diverges does produce: both are written as null, and null is
// read as NaN.
type Number float64

// Of returns a pointer to x, for figures that may be missing.
func Of(x float64) *Number {
	n := Number(x)
	return &n
}

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.finite() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

func (n Number) finite() bool {
	return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0)
}

// missing stands for a figure that is not known.
const missing = "–"

// fixed writes n with a number of decimals.
func (n Number) fixed(decimals int) string {
	switch {
	case !n.finite():
		return missing
	case math.Abs(float64(n)) >= 1e7: // would break a column
		return strconv.FormatFloat(float64(n), 'e', 1, 64)
	}
	return strconv.FormatFloat(float64(n), 'f', decimals, 64)
}

// fixed4 writes a share that may be missing, as tables show it.
func fixed4(n *Number) string {
	if n == nil {
		return missing
	}
	return n.fixed(4)
}

// percent writes a share of 1 with at most two decimals: 10 %, 0.25 %.
func (n Number) percent() string {
	switch {
	case !n.finite():
		return missing
	case math.Abs(float64(n)) > 100: // no share at all
		return shortest(100*n, 3) + " %"
	}
	return strconv.FormatFloat(math.Round(float64(n)*1e4)/1e2, 'f', -1, 64) + " %"
}

// grouped writes a count with a comma between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// shortest writes a figure of any size with so many digits.
func shortest(n Number, digits int) string {
	if !n.finite() {
		return missing
	}
	return strconv.FormatFloat(float64(n), 'g', digits, 64)
}
