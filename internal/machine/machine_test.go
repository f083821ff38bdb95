package machine

import "testing"

func TestFastBF16(t *testing.T) {
	amd, intel := "AuthenticAMD", "GenuineIntel"
	for _, c := range []struct {
		vendor, vectors string
		want            bool
	}{
		{amd, "avx512_bf16", true},
		{amd, "avx512", false},
		{amd, "", false},
		{intel, "amx", true},
		{intel, "avx512_bf16", false},
	} {
		if got := FastBF16(c.vendor, c.vectors); got != c.want {
			t.Errorf("FastBF16(%q, %q) = %v, want %v", c.vendor, c.vectors, got, c.want)
		}
	}
}
