package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cordon"
	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/machine"
	"cordon/internal/torch"
)

// doctorVersion is the version of the JSON that doctor writes.
const doctorVersion = 1

// diagnosis is what doctor found.
type diagnosis struct {
	Version int     `json:"version"`
	OK      bool    `json:"ok"` // nothing needed is missing
	Checks  []check `json:"checks"`
}

// check is one line of the diagnosis.
type check struct {
	Name   string             `json:"name"`
	OK     bool               `json:"ok"`
	Detail string             `json:"detail"`
	Hint   string             `json:"hint,omitempty"`
	Values map[string]float64 `json:"values,omitempty"`
}

func (d *diagnosis) add(c check) {
	d.Checks = append(d.Checks, c)
	d.OK = d.OK && c.OK
}

// doctoring is one call of cordon doctor.
type doctoring struct {
	data    string
	store   string
	skipBad bool
	json    bool
	engine  engineFlags
	recipe  recipeFlags
}

func newDoctor() *cobra.Command {
	d := &doctoring{}
	cmd := &cobra.Command{
		Use:   "doctor [DATA]",
		Short: "check the engine and the machine, estimate times",
		Long: `Looks for what cordon needs to train: the engine library, libtorch, fast matrix
products, CUDA devices, memory. With DATA it also measures a few training steps
and estimates how long cordon clean would take. It exits with 1 if something
needed is missing.

` + exitCodesHelp,
		Example: "  cordon doctor poisoned --set model.arch=resnet18",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				d.data = args[0]
			}
			return d.run(cmd)
		},
	}
	d.recipe.add(cmd)
	d.engine.add(cmd)
	addSkipBad(cmd, &d.skipBad)
	addStore(cmd, &d.store)
	cmd.Flags().BoolVar(&d.json, "json", false, "print one JSON object")
	return cmd
}

func (d *doctoring) run(cmd *cobra.Command) error {
	r, err := d.recipe.resolve(cmd)
	if err != nil {
		return err
	}
	if err := d.engine.check(); err != nil {
		return err
	}
	if err := outside(d.data, d.store); err != nil {
		return err
	}
	found := &diagnosis{Version: doctorVersion, OK: true}
	found.add(processor())
	found.add(memory())
	if err := d.examine(cmd.Context(), found); err != nil {
		return err
	}
	if d.data != "" && found.OK {
		c, err := d.duration(cmd, r)
		if errors.Is(err, context.Canceled) {
			return err
		}
		if err != nil {
			c = check{Name: "data", Detail: err.Error(), Hint: hintFor(err)}
		}
		found.add(c)
	}
	if err := found.print(cmd.OutOrStdout(), d.json); err != nil {
		return err
	}
	if !found.OK {
		return errors.New("something that cordon needs is missing")
	}
	return nil
}

func processor() check {
	return check{Name: "processor", OK: true, Detail: machine.CPU().String()}
}

func memory() check {
	total, available, err := memInfo()
	if err != nil {
		return check{Name: "memory", OK: true, Detail: "not known"}
	}
	const gib = 1 << 30
	return check{
		Name: "memory", OK: true,
		Detail: fmt.Sprintf("%.1f GiB, %.1f GiB available", total/gib, available/gib),
		Values: map[string]float64{"total_bytes": total, "available_bytes": available},
	}
}

// memInfo returns the machine's memory in bytes.
func memInfo() (total, available float64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		if kib, err := strconv.ParseFloat(fields[1], 64); err == nil {
			values[strings.TrimSuffix(fields[0], ":")] = kib * 1024
		}
	}
	return values["MemTotal"], values["MemAvailable"], lines.Err()
}

// examine opens the engine and looks at what it brings.
func (d *doctoring) examine(ctx context.Context, found *diagnosis) error {
	engine, err := torch.Open(torch.Options{Library: d.engine.library, Threads: d.engine.threads})
	if err != nil {
		found.add(check{Name: "engine", Detail: err.Error(), Hint: engineHint})
		return nil
	}
	defer engine.Close()
	info := engine.Info()
	found.add(check{Name: "engine", OK: true, Detail: fmt.Sprintf("%s, interface %d, %s", info.Library, torch.ABI, info.Build)})
	found.add(check{Name: "libtorch", OK: true, Detail: fmt.Sprintf("%s, %d threads", info.Torch, info.Threads)})
	_, err = engine.Device(d.engine.device)
	devices := check{Name: "device", OK: err == nil, Detail: fmt.Sprintf("%s (%d CUDA devices)", d.engine.device, info.CUDADevices)}
	if err != nil {
		devices.Detail, devices.Hint = err.Error(), "--device cpu always works; CUDA needs an engine built against a libtorch with CUDA"
	}
	found.add(devices)
	found.add(check{Name: "precision", OK: true, Detail: "auto is " + cordon.AutoPrecision(d.engine.device, info.Vectors) + " here"})
	var products check
	err = engine.Do(ctx, func() error {
		products, err = matrixProducts(ctx, engine)
		return err
	})
	if err == nil {
		found.add(products)
	}
	return err
}

const (
	productSide  = 1024
	productTries = 7
	// slowBLAS is the share of oneDNN's speed below which the BLAS is called
	// slow. OpenBLAS reaches a fifth (on an Intel of 2023) to more than half, the
	// reference BLAS a twentieth.
	slowBLAS = 0.1
)

// matrixProducts compares a product by the BLAS that libtorch found with a 1×1
// convolution of as many operations, which libtorch computes with its own
// oneDNN. The best of several interleaved tries counts, so that other load on
// the machine does not matter much.
func matrixProducts(ctx context.Context, engine *torch.Engine) (check, error) {
	const n = productSide
	s := engine.NewScope(torch.ScopeOptions{Device: torch.CPU})
	defer s.Close()
	values := make([]float32, n*n)
	for i := range values {
		values[i] = float32(i%7) / 7
	}
	a, b := s.Floats(values, n, n), s.Floats(values, n, n)
	image, kernel := s.Floats(values, 1, n, 32, n/32), s.Parameter(values, false, n, n, 1, 1)
	time1 := func(f func(*torch.Scope) torch.Tensor) (float64, error) {
		step := engine.NewScope(torch.ScopeOptions{Device: torch.CPU})
		defer step.Close()
		began := time.Now()
		f(step)
		return 2 * n * n * n / time.Since(began).Seconds() / 1e9, step.Err()
	}
	var blas, conv float64
	for range productTries {
		if err := ctx.Err(); err != nil {
			return check{}, err
		}
		x, err := time1(func(s *torch.Scope) torch.Tensor { return s.Matmul(a, b) })
		if err != nil {
			return check{}, err
		}
		y, err := time1(func(s *torch.Scope) torch.Tensor { return s.Conv2d(image, kernel, 1, 0) })
		if err != nil {
			return check{}, err
		}
		blas, conv = max(blas, x), max(conv, y)
	}
	return judgeProducts(blas, conv), s.Err()
}

// judgeProducts decides from GFLOP/s whether the BLAS is fast.
func judgeProducts(blas, conv float64) check {
	c := check{
		Name: "matrices", OK: blas >= slowBLAS*conv,
		Detail: fmt.Sprintf("fp32 products run at %.0f GFLOP/s, convolutions at %.0f", blas, conv),
		Values: map[string]float64{"blas_gflops": blas, "convolution_gflops": conv},
	}
	if !c.OK {
		c.Detail = "slow reference BLAS: " + c.Detail
		c.Hint = "install libopenblas0-openmp"
	}
	return c
}

// duration estimates how long cordon clean takes on the data.
func (d *doctoring) duration(cmd *cobra.Command, r cordon.Recipe) (check, error) {
	events := event.NewTerminal(cmd.ErrOrStderr())
	train, test, err := readData(cmd.Context(), d.data, dataset.Options{Size: r.Data.Size, SkipBad: d.skipBad, Store: d.store}, events)
	if err != nil {
		return check{}, err
	}
	defer train.Close()
	defer test.Close()
	left, err := cordon.Estimate(cmd.Context(), cordon.Options{
		Train: train, Test: test, Recipe: r,
		Library: d.engine.library, Device: d.engine.device, Threads: d.engine.threads,
	})
	if err != nil {
		return check{}, err
	}
	return check{
		Name: "time", OK: true,
		Detail: fmt.Sprintf("about %s for cordon clean with %s; %s", event.Duration(left.Round(time.Second)), r.Model.Arch, describe(train, test)),
		Values: map[string]float64{"seconds": left.Seconds()},
	}, nil
}

func (d *diagnosis) print(w io.Writer, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(d)
	}
	for _, c := range d.Checks {
		verdict := "ok"
		if !c.OK {
			verdict = "MISSING"
		}
		if _, err := fmt.Fprintf(w, "%-8s %-10s %s\n", verdict, c.Name, oneLine(c.Detail)); err != nil {
			return err
		}
		if c.Hint != "" {
			if _, err := fmt.Fprintf(w, "%-8s %-10s %s\n", "", "", c.Hint); err != nil {
				return err
			}
		}
	}
	return nil
}
