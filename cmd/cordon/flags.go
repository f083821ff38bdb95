package main

import (
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"cordon"
	"cordon/internal/event"
	"cordon/internal/recipe"
)

// engineFlags choose what computes.
type engineFlags struct {
	library, device string
	threads         int
}

func (e *engineFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&e.library, "engine", "", "engine library `file` (default: CORDON_ENGINE, then beside the program)")
	f.StringVar(&e.device, "device", "cpu", "cpu, cuda or cuda:N")
	f.IntVar(&e.threads, "threads", 0, "threads of the engine; 0 is one per processor")
}

func (e *engineFlags) check() error {
	if e.threads < 0 {
		return usagef("--threads %d: must not be negative", e.threads)
	}
	return nil
}

// recipeFlags choose the settings of a run.
type recipeFlags struct {
	file     string
	settings []string
}

func (r *recipeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.file, "recipe", "", "recipe `file` (TOML); what it does not name keeps its default")
	f.StringArrayVar(&r.settings, "set", nil, "change one `setting`, such as base.epochs=5; can be repeated")
	f.Uint64("seed", 0, "all randomness derives from it; the same as --set seed=N")
	f.String("precision", "auto", "auto, fp32 or bf16; the same as --set model.precision=P. cordon doctor says what auto is")
	f.Int("size", 0, "resize images to `N` × N pixels; the same as --set data.size=N")
}

// resolve returns the recipe: defaults, then the file, then the flags.
func (r *recipeFlags) resolve(cmd *cobra.Command) (cordon.Recipe, error) {
	out := cordon.DefaultRecipe()
	if r.file != "" {
		var err error
		if out, err = recipe.Read(r.file); err != nil {
			return out, recipeFailed(err)
		}
	}
	settings := r.settings
	for flag, key := range map[string]string{"seed": "seed", "size": "data.size", "precision": "model.precision"} {
		if f := cmd.Flags().Lookup(flag); f.Changed {
			settings = append(settings, key+"="+f.Value.String())
		}
	}
	for _, s := range settings {
		if err := out.Set(s); err != nil {
			return out, &usageError{err}
		}
	}
	return out, out.Validate()
}

// recipeFailed adds the right command to the error of a poison recipe.
func recipeFailed(err error) error {
	var wrong *recipe.Error
	if errors.As(err, &wrong) && wrong.Key == "part" {
		return &hinted{err, "[[part]] belongs to a poison recipe: cordon poison DATA --recipe FILE"}
	}
	return err
}

// console is where a long command writes. Results for people go to stdout;
// with --json they go to stderr and stdout carries the events.
type console struct {
	out    io.Writer
	events event.Sink
	json   *event.JSON // nil without --json
}

func newConsole(cmd *cobra.Command, asJSON bool) *console {
	people := event.NewTerminal(cmd.ErrOrStderr())
	if !asJSON {
		return &console{out: cmd.OutOrStdout(), events: people}
	}
	stream := event.NewJSON(cmd.OutOrStdout())
	return &console{out: cmd.ErrOrStderr(), events: event.Tee(stream, people), json: stream}
}

// finish ends the JSON stream with the command's result.
func (c *console) finish(message string, values map[string]float64) error {
	if c.json == nil {
		return nil
	}
	c.json.Send(event.Event{Type: event.Result, Time: time.Now(), Message: message, Values: values})
	return c.json.Err()
}

func addJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "write events to stdout, one JSON object a line; everything for people goes to stderr")
}

func addSkipBad(cmd *cobra.Command, skipBad *bool) {
	cmd.Flags().BoolVar(skipBad, "skip-bad", false, "leave out image files that cannot be read, and list them")
}

func addStore(cmd *cobra.Command, store *string) {
	cmd.Flags().StringVar(store, "store", "", "keep decoded images in this `folder` instead of memory: for sets that take more than it has")
}
