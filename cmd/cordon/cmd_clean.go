package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"cordon"
	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/repair"
	"cordon/internal/rundir"
	"cordon/report"
)

// cleaning is one call of cordon clean. It has no way to name a truth file.
type cleaning struct {
	data, out string
	store     string
	skipBad   bool
	json      bool
	save      time.Duration // between checkpoints
	engine    engineFlags
	recipe    recipeFlags
}

func newClean() *cobra.Command {
	c := &cleaning{}
	cmd := &cobra.Command{
		Use:   "clean DATA -o RUN",
		Short: "isolate suspicious samples and train a model without them",
		Long: `Runs partial training on the data set DATA: trains the base model M_s on all of
it and the partial model M′ with its first layers frozen, isolates the samples
that M′ finds easiest, and unlearns them from M_s. The folder RUN gets the
models, the lists of isolated and retained samples, and the report.

DATA is a folder with MNIST's IDX files, with CIFAR binary files, with TSRD, with
images and a manifest, or of class folders with images. Nothing needs to be known
about it.

An interrupted run continues with the same command and ends in the same result.

` + exitCodesHelp,
		Example: "  cordon clean poisoned -o run --set base.epochs=5",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.data = args[0]
			return c.run(cmd)
		},
	}
	cmd.Flags().StringVarP(&c.out, "out", "o", "", "folder of the run (required)")
	cmd.Flags().DurationVar(&c.save, "checkpoint-every", cordon.DefaultCheckpointEvery, "time between checkpoints; 0 saves after every step")
	addSkipBad(cmd, &c.skipBad)
	addStore(cmd, &c.store)
	c.recipe.add(cmd)
	c.engine.add(cmd)
	addJSON(cmd, &c.json)
	return cmd
}

func (c *cleaning) run(cmd *cobra.Command) error {
	if c.out == "" {
		return usagef("clean needs --out")
	}
	r, err := c.recipe.resolve(cmd)
	if err != nil {
		return err
	}
	if err := c.engine.check(); err != nil {
		return err
	}
	if c.save < 0 {
		return usagef("--checkpoint-every %v: must not be negative", c.save)
	}
	if c.save == 0 {
		c.save = -1 // what cordon.Options calls every step
	}
	for _, path := range []string{c.out, c.store} {
		if err := outside(c.data, path); err != nil {
			return err
		}
	}
	ctx, term := cmd.Context(), newConsole(cmd, c.json)
	opt := dataset.Options{Size: r.Data.Size, SkipBad: c.skipBad, Store: c.store}
	train, test, err := readData(ctx, c.data, opt, term.events)
	if err != nil {
		return err
	}
	defer train.Close()
	defer test.Close()
	c.announce(term.events, r, train, test)
	debug.FreeOSMemory() // reading leaves more behind than the images take
	done, err := cordon.Cleanse(ctx, cordon.Options{
		Train: train, Test: test, Recipe: r, Dir: c.out,
		Library: c.engine.library, Device: c.engine.device, Threads: c.engine.threads,
		Events: term.events, CheckpointEvery: c.save,
	})
	if err != nil {
		return c.failed(err)
	}
	if err := c.summary(term.out, done); err != nil {
		return err
	}
	return term.finish("report in "+filepath.Join(c.out, rundir.ReportJSON), nil)
}

// announce says what will be done.
func (c *cleaning) announce(events event.Sink, r cordon.Recipe, train, test *dataset.Set) {
	note(events, "%s", describe(train, test))
	used := "all of it"
	if r.Data.Sample > 0 && r.Data.Sample < train.Len() {
		used = fmt.Sprintf("a sample of %d", r.Data.Sample)
	}
	unlearn := "no repair"
	if repair.Wanted(r.Repair) {
		unlearn = fmt.Sprintf("unlearn (%s) %d epochs, fine-tune %d", r.Repair.Method, r.Repair.Epochs, r.Repair.FinetuneEpochs)
	}
	note(events, "partial training of %s on %s: M_s %d epochs, M′ %d epochs, isolate %.3g %%, %s; into %s",
		r.Model.Arch, used, r.Base.Epochs, r.Partial.Epochs, 100*r.Isolate.Rate, unlearn, c.out)
	switch {
	case exists(filepath.Join(c.out, rundir.ReportJSON)):
		note(events, "%s holds a finished run: nothing is left to do", c.out)
	case exists(filepath.Join(c.out, rundir.ManifestFile)):
		note(events, "%s holds a run already: if data and settings are the same, it continues", c.out)
	}
}

// failed says how to go on after an interruption.
func (c *cleaning) failed(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	return &hinted{err, fmt.Sprintf("the state is saved in %s; the same command continues", oneLine(c.out))}
}

// result is the file of the model that a run ends with: M_c, or M_s without repair.
func result(r *report.Report) string { return r.Models[len(r.Models)-1].File }

func (c *cleaning) summary(w io.Writer, r *report.Report) error {
	if err := report.Table(w, r); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(c.out, name) }
	_, err := fmt.Fprintf(w, "\n%s\n", oneLines([]string{
		"report    " + in(rundir.ReportHTML),
		"model     " + in(result(r)),
		"isolated  " + in(rundir.IsolatedFile),
		"retained  " + in(rundir.RetainedFile),
		"next      look at the isolated samples in the report; if the poison is known:",
		"          cordon eval " + c.out + " " + c.data + " --truth FILE",
	}))
	return err
}
