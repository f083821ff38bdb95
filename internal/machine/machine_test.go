package machine

import "testing"

func TestFastBF16(t *testing.T) {
	amd, intel := "AMD EPYC 9B14", "Intel(R) Xeon(R) Platinum 8592+"
	for _, c := range []struct {
		model string
		has   []string
		want  bool
	}{
		{amd, []string{"avx2", "avx512f", "avx512_bf16"}, true},
		{amd, []string{"avx2", "avx512f"}, false},
		{amd, nil, false},
		{intel, []string{"avx2", "avx512f", "avx512_bf16", "amx_bf16"}, true},
		{intel, []string{"avx2", "avx512f", "avx512_bf16"}, false},
	} {
		if got := FastBF16(c.model, c.has); got != c.want {
			t.Errorf("FastBF16(%q, %v) = %v, want %v", c.model, c.has, got, c.want)
		}
	}
}
