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

// CPU returns the processor's model name and which of the abilities that
// matter it has. What the system does not tell stays general.
func CPU() (model string, has []string) {
	model = runtime.GOARCH
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return model, nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags":
			flags := strings.Fields(value)
			for _, name := range features {
				if slices.Contains(flags, name) {
					has = append(has, name)
				}
			}
			return model, has
		}
	}
	return model, has
}

// FastBF16 says whether a processor of that model multiplies bfloat16 faster than
// float32 with the engine's vectors (torch.Info). One of Intel's without AMX does not,
// although it has the instruction: that starts in every second cycle, where float32's
// multiply-add starts twice in one, so half as many products a second come of it
// (docs/results/cpu-no-amx.md).
func FastBF16(model, vectors string) bool {
	return vectors == "amx" || vectors == "avx512_bf16" && !strings.Contains(model, "Intel")
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
