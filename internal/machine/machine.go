// Package machine says what the program runs on.
package machine

import (
	"bufio"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// features are the processor's abilities that decide the speed of training.
var features = []string{"avx2", "avx512f", "avx512_bf16", "amx_bf16"}

// Processor is what the system says of a processor.
type Processor struct {
	Model    string   // its name, or the architecture
	Vendor   string   // as cpuid has it (GenuineIntel, AuthenticAMD), "" if not known
	Features []string // which of the abilities that matter it has
}

// String gives the model and the features.
func (p Processor) String() string {
	if len(p.Features) == 0 {
		return p.Model
	}
	return p.Model + " (" + strings.Join(p.Features, " ") + ")"
}

// CPU describes the first processor. What the system does not tell stays general.
func CPU() Processor {
	p := Processor{Model: runtime.GOARCH}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return p
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "vendor_id":
			p.Vendor = strings.TrimSpace(value)
		case "model name":
			p.Model = strings.TrimSpace(value)
		case "flags":
			flags := strings.Fields(value)
			for _, name := range features {
				if slices.Contains(flags, name) {
					p.Features = append(p.Features, name)
				}
			}
			return p
		}
	}
	return p
}

// FastBF16 says whether a vendor's processor multiplies bfloat16 faster than float32
// with the engine's vectors (torch.Info). One of Intel's without AMX does not,
// although it has the instruction: that starts in every second cycle, where float32's
// multiply-add starts twice in one, so half as many products a second come of it
// (docs/results/cpu-no-amx.md).
func FastBF16(vendor, vectors string) bool {
	return vectors == "amx" || vectors == "avx512_bf16" && vendor != "GenuineIntel"
}

// PeakResident returns the largest resident memory of this process so far in
// bytes, 0 if it is not known.
func PeakResident() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) << 10
}
