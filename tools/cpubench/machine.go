package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"

	"cordon/internal/machine"
	"cordon/internal/torch"
)

// The kinds of vectors that targets differ by.
const (
	amx        = "AMX"
	avx512BF16 = "AVX-512 bf16 without AMX"
	noBF16     = "none for bf16"
)

// debianPython has Debian's PyTorch.
const debianPython = "/usr/bin/python3"

// examined is the machine and what runs on it.
type examined struct {
	processor  string
	commit     string // of cordon
	vectors    string // amx, avx512BF16 or noBF16
	engine     string
	precisions []string
	peers      []peer
	absent     []string           // peers that could not be measured
	gflops     map[string]float64 // speed of large matrix products
}

// peer is a Python with PyTorch.
type peer struct {
	name     string // with the version
	python   string
	library  string // that computes its products
	compiles bool   // has torch.compile
}

func examine(ctx context.Context, own programs, newest peer) (examined, error) {
	m := examined{processor: machine.CPU().String(), commit: commit(ctx), precisions: []string{"fp32", "bf16"}, gflops: map[string]float64{}}
	engine, err := torch.Open(torch.Options{Threads: 1})
	if err != nil {
		return m, err
	}
	info := engine.Info()
	engine.Close()
	m.engine = info.Build
	switch info.Vectors {
	case "amx":
		m.vectors = amx
	case "avx512_bf16":
		m.vectors = avx512BF16
	default:
		m.vectors, m.precisions = noBF16, []string{"fp32"}
	}
	m.findPeers(ctx, newest)
	if len(m.peers) == 0 {
		return m, errors.New("no PyTorch to compare with: make test-deps or make bench-peers")
	}
	for _, precision := range m.precisions {
		if m.gflops[precision], err = own.productSpeed(ctx, precision); err != nil {
			return m, err
		}
	}
	return m, nil
}

// findPeers asks both PyTorch for their versions.
func (m *examined) findPeers(ctx context.Context, newest peer) {
	for _, p := range []peer{
		{name: "Debian's PyTorch", python: debianPython},
		{name: "PyPI's PyTorch", python: newest.python, compiles: newest.compiles},
	} {
		if err := p.ask(ctx); err != nil {
			say("%s is left out (make test-deps, make bench-peers): %v", p.name, err)
			m.absent = append(m.absent, p.name)
			continue
		}
		m.peers = append(m.peers, p)
	}
}

var oneDNN = regexp.MustCompile(`MKL-DNN v([0-9.]+)`)

// ask adds the version to the name.
func (p *peer) ask(ctx context.Context) error {
	const script = "import torch, torchvision; print(torch.__version__); print(torch.__config__.show())"
	out, err := output(ctx, []string{p.python, "-c", script}, peerEnvironment())
	if err != nil {
		return err
	}
	version, rest, _ := strings.Cut(out, "\n")
	p.name += " " + version
	if found := oneDNN.FindStringSubmatch(rest); found != nil {
		p.library = "oneDNN " + found[1]
	}
	return nil
}

// productSpeed is the highest GFLOP/s of some tries: a limit of the machine.
func (p programs) productSpeed(ctx context.Context, precision string) (float64, error) {
	const tries = 5
	best := 0.0
	for range tries {
		out, err := output(ctx, []string{p.torch, "-test.run=^$", "-test.bench=^BenchmarkProduct$/^" + precision + "$", "-test.benchtime=10x"},
			append(os.Environ(), "CORDON_REQUIRE_ENGINE=1"))
		if err != nil {
			return 0, fmt.Errorf("matrix products: %w", err)
		}
		speed, err := before(out, "GFLOP/s")
		if err != nil {
			return 0, fmt.Errorf("matrix products: %w", err)
		}
		best = max(best, speed)
	}
	return best, nil
}

// commit names what is measured, as far as git knows.
func commit(ctx context.Context) string {
	out, err := output(ctx, []string{"git", "describe", "--always", "--exclude=*", "--dirty"}, os.Environ())
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(out)
}

func (m examined) lines() []string {
	lines := []string{
		fmt.Sprintf("processor: %s; %d cores; vectors: %s", m.processor, runtime.NumCPU(), m.vectors),
		fmt.Sprintf("engine: commit %s, %s", m.commit, m.engine),
	}
	for _, p := range m.peers {
		lines = append(lines, fmt.Sprintf("peer: %s, %s", p.name, p.library))
	}
	for _, name := range m.absent {
		lines = append(lines, "peer left out: "+name)
	}
	for _, precision := range m.precisions {
		lines = append(lines, fmt.Sprintf("matrix products in %s: %.0f GFLOP/s", precision, m.gflops[precision]))
	}
	return lines
}
