package machine

import "testing"

func TestFastBF16(t *testing.T) {
	amd, intel := "AMD EPYC 9B14", "Intel(R) Xeon(R) Platinum 8592+"
	for _, c := range []struct {
		model, vectors string
		want           bool
	}{
		{amd, "avx512_bf16", true},
		{amd, "avx512", false},
		{amd, "", false},
		{intel, "amx", true},
		{intel, "avx512_bf16", false},
	} {
		if got := FastBF16(c.model, c.vectors); got != c.want {
			t.Errorf("FastBF16(%q, %q) = %v, want %v", c.model, c.vectors, got, c.want)
		}
	}
}
