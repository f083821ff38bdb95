// Command cpubench compares cordon's speed on the processor with PyTorch's: the
// table of docs/results/cpu.md. make bench runs it, from the repository root.
//
// Whole processes take turns, so that a busy machine slows all of them. Of each
// PyTorch every memory format is tried, eager and compiled; the two fastest of
// all run against cordon, and the faster one of them counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds for each line of the table")
	keys := flag.String("rows", "", "only these rows: "+strings.Join(rowKeys(), ", "))
	newest := flag.String("newest", "", "Python with the newest PyTorch and torchvision (make bench-peers)")
	eager := flag.Bool("eager", false, "leave PyTorch's compiled variants out: they take most of the time")
	file := flag.String("write", "", "put the table between the marks of this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *rounds, *keys, peer{python: *newest, compiles: !*eager}, *file); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, keys string, newest peer, file string) error {
	if rounds < 1 {
		return fmt.Errorf("rounds must be at least 1, not %d", rounds)
	}
	chosen, err := chooseRows(keys)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "cordon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	say("building the benchmarks")
	own := programs{train: filepath.Join(work, "train.test"), torch: filepath.Join(work, "torch.test")}
	if err := own.build(ctx); err != nil {
		return err
	}
	say("looking at the machine")
	m, err := examine(ctx, own, newest)
	if err != nil {
		return err
	}
	t := &table{machine: m, rounds: rounds, file: file}
	fmt.Print(t.heading())
	minutes, compiling := m.estimate(chosen, rounds)
	say("%d contests: on two cores about %d minutes, and the first time %d more in PyTorch's compiler",
		len(chosen)*len(m.precisions), minutes, compiling)
	return t.fill(ctx, chosen, own)
}

// fill measures row by row, prints each and writes it to the file.
func (t *table) fill(ctx context.Context, chosen []row, own programs) error {
	for _, r := range chosen {
		for _, precision := range t.machine.precisions {
			o, err := newContest(r, precision, own, t.machine.peers).hold(ctx, t.rounds)
			if err != nil {
				return fmt.Errorf("%s in %s: %w", r.title, precision, err)
			}
			t.results = append(t.results, o)
			fmt.Println(t.line(o))
			if err := t.write(); err != nil {
				return err
			}
		}
	}
	return nil
}

// programs are the compiled benchmarks of two packages.
type programs struct{ train, torch string }

func (p programs) build(ctx context.Context) error {
	for file, pkg := range map[string]string{p.train: "./internal/train", p.torch: "./internal/torch"} {
		out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", file, pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

// say reports progress, apart from the table on the standard output.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
