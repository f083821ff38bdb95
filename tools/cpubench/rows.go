package main

import (
	"fmt"
	"slices"
	"strings"
)

// row is one comparison, made in each precision.
type row struct {
	key, title string
	own        workload
	// rival is what own is compared with, in cordon too. Without one it is
	// the same workload in PyTorch.
	rival   *workload
	targets targets
}

// workload is a benchmark of internal/train with its flags.
type workload struct {
	benchmark  string // Step, Evaluate, Partial, Batch
	arch, stem string
	batch      int // images in a step
	size       int // height and width
	threads    int // 0: one per processor
	steps      int // in one process: a few seconds of them
}

// targets are the least ratios that were asked for, with a Zen 5 in mind
// (docs/results/cpu-zen4.md): in fp32, and in bf16 on processors with AMX and on those
// with AVX-512 bf16 alone.
type targets struct{ fp32, amx, avx512 float64 }

// of returns the target for one precision, 0 if there is none.
func (t targets) of(precision, vectors string) float64 {
	switch {
	case precision == "fp32":
		return t.fp32
	case vectors == amx:
		return t.amx
	case vectors == avx512BF16:
		return t.avx512
	}
	return 0
}

var (
	resnet50 = workload{benchmark: "Step", arch: "resnet50", stem: "imagenet", batch: 128, size: 32, steps: 6}
	// resnet18 takes the fastest training step of all rows.
	resnet18 = workload{benchmark: "Step", arch: "resnet18", stem: "imagenet", batch: 128, size: 32, steps: 12}
)

var rows = []row{
	{key: "resnet50", title: "ResNet-50, 128, 32×32", own: resnet50, targets: targets{2.4, 5.5, 3.4}},
	{key: "resnet18", title: "ResNet-18, 128, 32×32", own: resnet18, targets: targets{2, 4, 2.5}},
	{
		key: "preact", title: "PreAct-ResNet-18, 128, 32×32, small stem",
		own:     workload{benchmark: "Step", arch: "preact_resnet18", stem: "small", batch: 128, size: 32, steps: 3},
		targets: targets{1.3, 3, 1.6},
	},
	{
		key: "size64", title: "ResNet-50, 64, 64×64",
		own:     workload{benchmark: "Step", arch: "resnet50", stem: "imagenet", batch: 64, size: 64, steps: 5},
		targets: targets{1.8, 4, 2.2},
	},
	{
		key: "size224", title: "ResNet-50, 16, 224×224",
		own:     workload{benchmark: "Step", arch: "resnet50", stem: "imagenet", batch: 16, size: 224, steps: 3},
		targets: targets{1, 2, 1.2},
	},
	{
		key: "evaluate", title: "evaluation of ResNet-50, 256, 32×32",
		own:     workload{benchmark: "Evaluate", arch: "resnet50", stem: "imagenet", batch: 256, size: 32, steps: 10},
		targets: targets{2.4, 5, 3},
	},
	{
		key: "partial", title: "ResNet-50, 128, 32×32 with a frozen prefix, against without",
		own:     workload{benchmark: "Partial", arch: "resnet50", stem: "imagenet", batch: 128, size: 32, steps: 10},
		rival:   &resnet50,
		targets: targets{1.15, 1.15, 1.15},
	},
	{
		key: "data", title: "batches of 32×32 on one core, against ResNet-18's training",
		own:     workload{benchmark: "Batch", batch: 128, size: 32, threads: 1, steps: 300},
		rival:   &resnet18,
		targets: targets{20, 20, 20},
	},
}

func rowKeys() []string {
	var keys []string
	for _, r := range rows {
		keys = append(keys, r.key)
	}
	return keys
}

// chooseRows returns the named rows, all if none is named.
func chooseRows(names string) ([]row, error) {
	wanted := strings.FieldsFunc(names, func(r rune) bool { return r == ' ' || r == ',' })
	for _, key := range wanted {
		if !slices.Contains(rowKeys(), key) {
			return nil, fmt.Errorf("unknown row %q: want some of %s", key, strings.Join(rowKeys(), ", "))
		}
	}
	var chosen []row
	for _, r := range rows {
		if len(wanted) == 0 || slices.Contains(wanted, r.key) {
			chosen = append(chosen, r)
		}
	}
	return chosen, nil
}
