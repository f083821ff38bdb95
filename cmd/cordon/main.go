// Command cordon finds backdoors in image training sets and trains a model
// without them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"cordon"
	"cordon/internal/printable"
	"cordon/internal/recipe"
)

// Exit codes. They are part of the command line's interface.
const (
	exitDone        = 0
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

const exitCodesHelp = `Exit codes: 0 done, 1 failure, 2 wrong usage or recipe, 130 interrupted.`

const engineHint = "build it with `make engine` (needs libtorch-dev), or name it with --engine FILE or CORDON_ENGINE"

func main() {
	waitBriefly()
	ctx, stop := interruptible(context.Background(), os.Stderr)
	root := newRoot(os.Stdout, os.Stderr)
	err := root.ExecuteContext(ctx)
	stop()
	tell(os.Stderr, err)
	os.Exit(exitCode(err))
}

// waitBriefly makes the engine's idle threads sleep after a fraction of a
// millisecond: spinning for longer made a step 15 times slower on a busy machine,
// sleeping at once costs a fifth on an idle one. It has to be set before the
// engine is loaded; what the user set is left alone.
func waitBriefly() {
	for _, name := range []string{"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	os.Setenv("GOMP_SPINCOUNT", "30000") // cannot fail for a valid name
}

// newRoot makes the command tree.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "cordon",
		Short: "find backdoors in image training sets and train a model without them",
		Long: `cordon takes an image training set that you did not make, isolates the samples
that look like a planted backdoor, and trains a model without it.

` + exitCodesHelp,
		Version:           versionLine(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              usageArgs(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newPoison(), newClean(), newEval(), newData(), newDoctor(), newVersion())
	return root
}

// interruptible returns a context that the first SIGINT or SIGTERM cancels; the
// second ends the program at once.
func interruptible(parent context.Context, w io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		fmt.Fprintln(w, "\ncordon: stopping after the step in progress; interrupt again to stop at once")
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%s: %w (see cordon %s --help)", cmd.Name(), err, cmd.Name())
		}
		return nil
	}
}

// hinted is an error with a line that says what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// exitCode is what the program ends with after err.
func exitCode(err error) int {
	var usage *usageError
	var setting *recipe.Error
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &setting):
		return exitUsage
	default:
		return exitFailure
	}
}

// tell writes an error as one line, and a second with the hint.
func tell(w io.Writer, err error) {
	if err == nil {
		return
	}
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	fmt.Fprintln(w, "cordon: "+oneLine(text))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintln(w, "hint: "+hint)
	}
}

func hintFor(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	if errors.Is(err, cordon.ErrNoEngine) {
		return engineHint
	}
	return ""
}

// oneLine makes one line of a text, safe for a terminal.
func oneLine(text string) string {
	return printable.Line(strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}
