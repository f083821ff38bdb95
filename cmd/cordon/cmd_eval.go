package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cordon/attack"
	"cordon/dataset"
	"cordon/internal/evaluation"
	"cordon/internal/recipe"
	"cordon/internal/rundir"
	"cordon/report"
)

// evaluating is one call of cordon eval.
type evaluating struct {
	subject, data, truth string
	store                string
	size                 int
	skipBad, json        bool
	engine               engineFlags
}

func newEval() *cobra.Command {
	e := &evaluating{}
	cmd := &cobra.Command{
		Use:   "eval RUN|MODEL DATA",
		Short: "measure a run or a model; with a truth file also against the attack",
		Long: `Measures on the test split of DATA. For the folder of a run it evaluates every
model of it, in the run's precision, and writes the report anew; for a model file
(safetensors) it prints its accuracy in fp32.

With --truth, the file that cordon poison wrote, it also applies the trigger:
ASR is the share of triggered images taken for the target class, floor the same
without the trigger, RA the share of triggered images still recognised. For a
run it also says how well the poisoned samples were isolated; that needs no test
split.

` + exitCodesHelp,
		Example: "  cordon eval run poisoned --truth poisoned.truth.json",
		Args:    usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			e.subject, e.data = args[0], args[1]
			return e.run(cmd)
		},
	}
	cmd.Flags().StringVar(&e.truth, "truth", "", "truth `file` of the poisoned data")
	cmd.Flags().IntVar(&e.size, "size", 0, "resize images to `N` × N pixels (default: what the run was made with)")
	addSkipBad(cmd, &e.skipBad)
	addStore(cmd, &e.store)
	e.engine.add(cmd)
	addJSON(cmd, &e.json)
	return cmd
}

func (e *evaluating) run(cmd *cobra.Command) error {
	if err := e.engine.check(); err != nil {
		return err
	}
	if err := outside(e.data, e.store); err != nil {
		return err
	}
	info, err := os.Stat(e.subject)
	if err != nil {
		return err
	}
	term := newConsole(cmd, e.json)
	opt := evaluation.Options{
		Library: e.engine.library, Device: e.engine.device, Threads: e.engine.threads, Events: term.events,
	}
	if e.truth != "" {
		if opt.Truth, err = attack.ReadTruth(e.truth); err != nil {
			return err
		}
	}
	if info.IsDir() {
		return e.evalRun(cmd.Context(), term, opt)
	}
	return e.evalModel(cmd.Context(), term, opt)
}

func (e *evaluating) evalRun(ctx context.Context, term *console, opt evaluation.Options) error {
	dir, _, err := rundir.Finished(e.subject)
	if errors.Is(err, rundir.ErrUnfinished) {
		return &hinted{err, "the cordon clean that began it continues it"}
	}
	if err != nil {
		return err
	}
	if e.size == 0 {
		r, err := recipe.Read(dir.Path(rundir.RecipeFile))
		if err != nil {
			return err
		}
		e.size = r.Data.Size
	}
	opt.Train, opt.Test, err = readData(ctx, e.data, e.reading(), term.events)
	if err != nil {
		return err
	}
	defer opt.Train.Close()
	defer opt.Test.Close()
	note(term.events, "evaluating the models of %s on %s", e.subject, describe(opt.Train, opt.Test))
	r, err := evaluation.Run(ctx, e.subject, opt)
	if err != nil {
		return err
	}
	if err := report.Table(term.out, r); err != nil {
		return err
	}
	path := filepath.Join(e.subject, rundir.ReportHTML)
	_, err = fmt.Fprintf(term.out, "\n%s\n", oneLines([]string{
		"report    " + path,
		"model     " + filepath.Join(e.subject, result(r)),
	}))
	return errors.Join(err, term.finish("report in "+path, nil))
}

func (e *evaluating) evalModel(ctx context.Context, term *console, opt evaluation.Options) error {
	var err error
	if opt.Test, err = readTest(ctx, e.data, e.reading(), term.events); err != nil {
		return err
	}
	defer opt.Test.Close()
	note(term.events, "evaluating %s on %d test images of %s", e.subject, opt.Test.Len(), opt.Test.Name)
	m, err := evaluation.Model(ctx, e.subject, opt)
	if err != nil {
		return err
	}
	values := map[string]float64{}
	for _, f := range figures(m) {
		if f.value != nil {
			values[f.key] = float64(*f.value)
		}
	}
	return errors.Join(printModel(term.out, m), term.finish("evaluated "+e.subject, values))
}

func (e *evaluating) reading() dataset.Options {
	return dataset.Options{Size: e.size, SkipBad: e.skipBad, Store: e.store}
}

// figure is one measure of a model; nil where it was not taken.
type figure struct {
	name, key, meaning string
	value              *report.Number
}

func figures(m report.Model) []figure {
	return []figure{
		{"ACC", "acc", "clean test images recognised", m.ACC},
		{"ASR", "asr", "triggered images taken for the target class", m.ASR},
		{"floor", "floor", "the same images without the trigger", m.Floor},
		{"RA", "ra", "triggered images recognised", m.RA},
	}
}

func printModel(w io.Writer, m report.Model) error {
	for _, f := range figures(m) {
		if f.value == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-6s %.4f  %s\n", f.name, float64(*f.value), f.meaning); err != nil {
			return err
		}
	}
	return nil
}
