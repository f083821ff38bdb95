package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processLimit ends a process that hangs. PyTorch's compiler takes minutes.
var processLimit = 15 * time.Minute

// contestant is a program that times a workload.
type contestant struct {
	name    string
	command []string // without the number of steps
	stepsAs string   // the flag for it
	steps   int
	env     []string
}

// sample is what one process measured.
type sample struct {
	rate float64 // images per second
	peak float64 // resident memory in MiB
}

// cordonOn is cordon's own contestant.
func cordonOn(program string, w workload, precision string) contestant {
	pattern := "^Benchmark" + w.benchmark + "$"
	if w.benchmark != "Batch" { // which has no precision
		pattern += "/^" + precision + "$"
	}
	command := []string{
		program, "-test.run=^$", "-test.bench=" + pattern, fmt.Sprintf("-batch=%d", w.batch),
		fmt.Sprintf("-size=%d", w.size), fmt.Sprintf("-threads=%d", w.threads),
	}
	if w.arch != "" {
		command = append(command, "-arch="+w.arch, "-stem="+w.stem)
	}
	return contestant{
		name: "cordon", command: command, stepsAs: "-test.benchtime=%dx", steps: w.steps,
		env: append(os.Environ(), "CORDON_REQUIRE_ENGINE=1"),
	}
}

// pytorchOn lists every way in which a PyTorch can do the workload.
func pytorchOn(p peer, w workload, precision string) []contestant {
	modes := []string{""}
	if p.compiles {
		modes = append(modes, "--compile")
	}
	var all []contestant
	for _, mode := range modes {
		for _, format := range []string{"channels_last", "contiguous"} {
			c := contestant{
				name: p.name + ", " + strings.ReplaceAll(format, "_", " "), stepsAs: "--steps=%d", steps: w.steps,
				command: []string{p.python, "tools/parity/peer.py", w.arch, strconv.Itoa(w.batch), strconv.Itoa(w.size), precision, "--stem=" + w.stem, "--format=" + format},
				env:     peerEnvironment(),
			}
			if w.benchmark == "Evaluate" {
				c.command = append(c.command, "--evaluate")
			}
			if mode != "" {
				c.name, c.command = c.name+", compiled", append(c.command, mode)
			}
			all = append(all, c)
		}
	}
	return all
}

// peerEnvironment is ours without what the Makefile sets for cordon's threads: no
// PyTorch was faster with it.
func peerEnvironment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GOMP_SPINCOUNT=") {
			env = append(env, v)
		}
	}
	return append(env, "PYTHONWARNINGS=ignore")
}

// time runs the process once.
func (c contestant) time(ctx context.Context, steps int) (sample, error) {
	out, err := output(ctx, append(c.command, fmt.Sprintf(c.stepsAs, steps)), c.env)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", c.name, err)
	}
	s, err := parseSample(out)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", c.name, err)
	}
	return s, nil
}

// output runs a command. What it printed last stands in the error.
func output(ctx context.Context, command, env []string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, processLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, command[0], command[1:]...)
	cmd.Env = env
	// The compiler's workers would otherwise outlive an interrupted PyTorch.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // for what left the group and holds the output open
	var out, failure strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failure
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if limited.Err() != nil {
		return "", fmt.Errorf("timed out after %v", processLimit)
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) { // that one ended well, but not its children
		return "", fmt.Errorf("%w: %s", err, lastLine(failure.String()+out.String()))
	}
	return out.String(), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// parseSample reads "123.4 images/s" and "567 MiB" from among other words.
func parseSample(out string) (sample, error) {
	rate, err := before(out, "images/s")
	if err != nil {
		return sample{}, err
	}
	peak, err := before(out, "MiB")
	return sample{rate, peak}, err
}

// before returns the positive number that stands before a unit.
func before(text, unit string) (float64, error) {
	fields := strings.Fields(text)
	for i, f := range fields {
		if f != unit || i == 0 {
			continue
		}
		if v, err := strconv.ParseFloat(fields[i-1], 64); err == nil && v > 0 {
			return v, nil
		}
	}
	return 0, errors.New("printed no " + unit)
}
