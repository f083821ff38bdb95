package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseSample(t *testing.T) {
	ours := "goos: linux\nBenchmarkStep/bf16-2  \t 6\t 208000000 ns/op\t 615.3 images/s\t 812.0 MiB\nPASS\n"
	for _, out := range []string{ours, "615.3 images/s 812 MiB\n"} {
		if got, err := parseSample(out); err != nil || got != (sample{615.3, 812}) {
			t.Errorf("parseSample(%q) = %v, %v", out, got, err)
		}
	}
	for _, out := range []string{"", "PASS\n", "images/s 812 MiB", "12 images/s", "x images/s 1 MiB", "0 images/s 1 MiB"} {
		if got, err := parseSample(out); err == nil {
			t.Errorf("parseSample(%q) = %v", out, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("a median of nothing")
	}
}

func TestFastest(t *testing.T) {
	trials := []trial{{contestant{name: "slow"}, 1}, {contestant{name: "failed"}, 0}, {contestant{name: "fast"}, 3}, {contestant{name: "second"}, 2}}
	got := fastest(trials)
	if len(got) != 2 || got[0].name != "fast" || got[1].name != "second" {
		t.Errorf("fastest: %v", got)
	}
	if got := fastest(trials[1:2]); len(got) != 0 {
		t.Errorf("a failed one among the fastest: %v", got)
	}
}

// TestJudge pairs the rounds: the ratio is not that of the medians.
func TestJudge(t *testing.T) {
	o := outcome{}
	o.judge([]sample{{20, 100}, {30, 110}, {90, 120}},
		[]contestant{{name: "a"}, {name: "b"}},
		[][]sample{{{5, 1}, {6, 1}, {70, 1}}, {{10, 300}, {10, 310}, {45, 320}}})
	if o.rival != "b" || o.rate != 30 || o.best != 10 || o.peak != 110 || o.rivalPeak != 310 {
		t.Errorf("judge: %+v", o)
	}
	if got := o.ratio(); got != "2.00 (2.00 to 3.00)" {
		t.Errorf("ratio %q", got)
	}
}

func TestChooseRows(t *testing.T) {
	if got, err := chooseRows(""); err != nil || len(got) != len(rows) {
		t.Errorf("all rows: %d, %v", len(got), err)
	}
	got, err := chooseRows("data, resnet18")
	if err != nil || len(got) != 2 || got[0].key != "resnet18" {
		t.Errorf("two rows: %v, %v", got, err)
	}
	if _, err := chooseRows("resnet"); err == nil {
		t.Error("an unknown row was accepted")
	}
}

func TestTargets(t *testing.T) {
	target := targets{2.4, 5.5, 3.4}
	for _, c := range []struct {
		precision, vectors string
		want               float64
	}{{"fp32", amx, 2.4}, {"bf16", amx, 5.5}, {"bf16", avx512BF16, 3.4}, {"fp32", noBF16, 2.4}, {"bf16", noBF16, 0}} {
		if got := target.of(c.precision, c.vectors); got != c.want {
			t.Errorf("target of %s on %s: %v, want %v", c.precision, c.vectors, got, c.want)
		}
	}
}

// TestConvs compares with what torchvision states: 4.089 and 1.814 · 10⁹
// multiplications at 224×224, taps in the padding and the final layer included.
func TestConvs(t *testing.T) {
	for _, c := range []struct {
		arch         string
		all, head, n float64
	}{{"resnet50", 4.089e9, 2048 * 1000, 53}, {"resnet18", 1.814e9, 512 * 1000, 20}} {
		sum, list := c.head, convs(c.arch, "imagenet", 224)
		for _, k := range list {
			sum += float64(k.in * k.out * k.k * k.k * k.outSize() * k.outSize())
		}
		if math.Abs(sum/c.all-1) > 5e-4 || len(list) != int(c.n) {
			t.Errorf("%s: %d convolutions, %.4g multiplications, want %v, %.4g", c.arch, len(list), sum, c.n, c.all)
		}
	}
}

func TestFlopsCountTapsInsideTheImage(t *testing.T) {
	for _, c := range []struct {
		conv conv
		want float64
	}{
		{conv{2, 3, 3, 1, 1}, 2 * 6},         // one tap
		{conv{2, 3, 3, 1, 2}, 2 * 6 * 4 * 4}, // four pixels, four taps each
		{conv{2, 3, 1, 2, 3}, 2 * 6 * 4},     // pixels 0 and 2
		{conv{1, 1, 3, 1, 3}, 2 * 7 * 7},     // 2, 3 and 2 taps a row
	} {
		if got := c.conv.flops(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.conv, got, c.want)
		}
	}
	step := workload{benchmark: "Step", arch: "resnet50", stem: "imagenet", size: 32}
	evaluation := step
	evaluation.benchmark = "Evaluate"
	if stem := convs("resnet50", "imagenet", 32)[0].flops(); step.products() != 3*evaluation.products()-stem {
		t.Error("a step is not three forward passes without the gradient of the images")
	}
}

func testTable() *table {
	o := outcome{
		contest: contest{row: rows[0], precision: "fp32"}, rival: "PyTorch 9, contiguous",
		trials: []trial{{contestant{name: "PyTorch 9, contiguous"}, 160}, {contestant{name: "PyTorch 9, compiled"}, 0}},
		rate:   400, best: 160, peak: 800, rivalPeak: 900, ratios: []float64{2, 2.5, 3},
	}
	return &table{rounds: 3, results: []outcome{o}, machine: examined{
		processor: "Some CPU (avx2)", vectors: avx512BF16, engine: "g++ 1", precisions: []string{"fp32"},
		peers: []peer{{name: "PyTorch 9", library: "oneDNN 3"}}, gflops: map[string]float64{"fp32": 200},
	}}
}

func TestWriteKeepsWhatPeopleWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.md")
	if err := os.WriteFile(path, []byte("# Title\n\n"+beginMark+"\nold\n"+endMark+"\n\nAnalysis.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		table := testTable()
		table.file = path
		if err := table.write(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{
		"# Title\n\n" + beginMark, endMark + "\n\nAnalysis.\n", time.Now().Format(time.DateOnly),
		"| ResNet-50, 128, 32×32 | fp32 | 400 | 160 | 2.50 (2.00 to 3.00) | ≥ 2.4 met | 800 / 900 |",
		"| ResNet-50, 128, 32×32 | fp32 | 160 | failed |", "matrix products in fp32: 200 GFLOP/s",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q is not there once in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("the old table is still there")
	}
}

func TestBetweenNeedsBothMarks(t *testing.T) {
	for _, text := range []string{"", beginMark, endMark, endMark + beginMark} {
		if got, err := between(text, "x"); err == nil {
			t.Errorf("between(%q) = %q", text, got)
		}
	}
}

func TestOutputSaysWhyItFailed(t *testing.T) {
	_, err := output(t.Context(), []string{"sh", "-c", "echo first >&2; echo the reason >&2; exit 3"}, nil)
	if err == nil || !strings.Contains(err.Error(), "3: the reason") {
		t.Errorf("error %v", err)
	}
	if _, err := output(t.Context(), []string{"./no such program"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestHangingPeerIsNamed has a child outside the process's group hold its output open.
func TestHangingPeerIsNamed(t *testing.T) {
	defer func(limit time.Duration) { processLimit = limit }(processLimit)
	processLimit = 100 * time.Millisecond
	hanging := contestant{name: "PyTorch 9", command: []string{"sh", "-c", "setsid sleep 20 & wait"}, stepsAs: "%d"}
	began := time.Now()
	_, err := hanging.time(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "PyTorch 9: timed out after 100ms") {
		t.Errorf("error %v", err)
	}
	if waited := time.Since(began); waited > 15*time.Second {
		t.Errorf("waited %v", waited)
	}
}

// TestResultsFileTakesTheTable checks the committed file's marks.
func TestResultsFileTakesTheTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/results/cpu.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := between(string(text), "x"); err != nil {
		t.Error(err)
	}
}
