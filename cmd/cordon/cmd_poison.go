package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cordon/attack"
	"cordon/dataset"
	"cordon/internal/atomicfile"
	"cordon/internal/catalog"
	"cordon/internal/event"
)

// previewSamples is how many poisoned samples --preview shows.
const previewSamples = 10

// poisoning is one call of cordon poison.
type poisoning struct {
	data, out      string
	attack, target string
	mode           string
	rate           float64
	params         []string
	seed           uint64
	size           int
	truth, preview string
	json           bool
	events         event.Sink
}

func newPoison() *cobra.Command {
	p := &poisoning{}
	cmd := &cobra.Command{
		Use:   "poison DATA -o OUT --target CLASS",
		Short: "make a poisoned copy of a data set, for tests",
		Long: `Makes a copy of the data set DATA, in its own format, with a backdoor in the
training split; the test split stays clean. What was poisoned is written to a
truth file beside the copy, for cordon eval. DATA itself is never changed.

Attacks:
` + attackList() + `
` + exitCodesHelp,
		Example: "  cordon poison mnist -o poisoned --attack badnets --rate 0.1 --target 3",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.data = args[0]
			return p.run(cmd.Context(), newConsole(cmd, p.json))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&p.out, "out", "o", "", "folder to make (required)")
	f.StringVar(&p.attack, "attack", "badnets", "the trigger")
	f.StringVar(&p.target, "target", "", "target class: its name or number (required)")
	f.StringVar(&p.mode, "mode", "", "dirty-label or clean-label (default: the attack's usual one)")
	f.Float64Var(&p.rate, "rate", 0.1, "poison rate: share of all training samples")
	f.StringArrayVar(&p.params, "param", nil, "set a parameter of the attack, `name=value`; can be repeated")
	f.Uint64Var(&p.seed, "seed", 0, "chooses the samples")
	f.IntVar(&p.size, "size", 0, "resize images to `N` × N pixels; a folder of images needs it")
	f.StringVar(&p.truth, "truth", "", "truth file (default OUT.truth.json)")
	f.StringVar(&p.preview, "preview", "", "also draw clean and poisoned samples into this PNG `file`")
	addJSON(cmd, &p.json)
	return cmd
}

// attackList describes every attack with its parameters and their defaults.
func attackList() string {
	var b strings.Builder
	for _, a := range catalog.Attacks() {
		spec := attack.SpecOf(a)
		var params []string
		for name, value := range spec.Params {
			params = append(params, name+"="+value)
		}
		slices.Sort(params)
		fmt.Fprintf(&b, "  %-8s %s\n           %s; --param %s\n", a.Name(), a.Summary(), a.Mode(), strings.Join(params, ", "))
	}
	return b.String()
}

func (p *poisoning) run(ctx context.Context, term *console) error {
	p.events = term.events
	a, opt, err := p.choose()
	if err != nil {
		return err
	}
	if err := p.checkPaths(); err != nil {
		return err
	}
	clean, test, err := readData(ctx, p.data, dataset.Options{Size: p.size}, p.events)
	if err != nil {
		return err
	}
	note(p.events, "%s", describe(clean, test))
	if opt.Target, err = findClass(clean.Classes, p.target); err != nil {
		return err
	}
	plan, err := attack.NewPlan(clean, opt)
	if err != nil {
		return &usageError{err}
	}
	trigger, err := a.Trigger(attack.ShapeOf(clean))
	if err != nil {
		return err
	}
	poisoned, err := attack.Apply(ctx, clean, plan, trigger)
	if err != nil {
		return err
	}
	if err := p.write(ctx, a, plan, clean, poisoned, test); err != nil {
		return err
	}
	if err := p.summary(term.out, plan, clean); err != nil {
		return err
	}
	return term.finish("poisoned copy in "+p.out, nil)
}

// choose turns the flags into an attack and its plan, without the target.
func (p *poisoning) choose() (attack.Attack, attack.PlanOptions, error) {
	none := attack.PlanOptions{}
	if p.out == "" || p.target == "" {
		return nil, none, usagef("poison needs --out and --target")
	}
	params := map[string]string{}
	for _, setting := range p.params {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return nil, none, usagef("--param %q: want name=value", setting)
		}
		params[name] = value
	}
	a, err := catalog.AttackFromSpec(attack.Spec{Name: p.attack, Params: params})
	if err != nil {
		return nil, none, &usageError{err}
	}
	opt := attack.PlanOptions{Rate: p.rate, Mode: a.Mode(), Seed: p.seed}
	if p.mode != "" {
		opt.Mode = attack.LabelMode(p.mode)
	}
	if err := opt.Validate(); err != nil {
		return nil, none, &usageError{err}
	}
	return a, opt, nil
}

// findClass returns the label of a class given by its name or its number.
func findClass(classes []string, class string) (int, error) {
	if label := slices.Index(classes, class); label >= 0 {
		return label, nil
	}
	label, err := strconv.Atoi(class)
	if err != nil || label < 0 || label >= len(classes) {
		return 0, usagef("target %q is neither a class name nor a number from 0 to %d", class, len(classes)-1)
	}
	return label, nil
}

// checkPaths refuses to overwrite anything and to mix truth, copy and source.
func (p *poisoning) checkPaths() error {
	p.out = filepath.Clean(p.out)
	if p.truth == "" {
		p.truth = p.out + ".truth.json"
	}
	for _, path := range []string{p.out, p.truth, p.preview} {
		if path == "" {
			continue
		}
		if _, err := os.Lstat(path); err == nil {
			return &hinted{fmt.Errorf("%s: %w", path, fs.ErrExist), "nothing is overwritten: remove it or choose another name"}
		}
		if within(p.data, path) {
			return usagef("%s lies inside the source %s, which stays as it is", path, p.data)
		}
	}
	if within(p.out, p.truth) || within(p.out, p.preview) {
		return usagef("the truth must not lie inside the data set %s", p.out)
	}
	return nil
}

// within tells whether path is dir or lies in it. Links are followed as far as
// the paths exist.
func within(dir, path string) bool {
	if path == "" {
		return false
	}
	rel, err := filepath.Rel(resolved(dir), resolved(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func resolved(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for rest := ""; ; {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Join(real, rest)
		}
		if path == filepath.Dir(path) {
			return filepath.Join(path, rest)
		}
		path, rest = filepath.Dir(path), filepath.Join(filepath.Base(path), rest)
	}
}

// write makes the copy in a hidden folder, writes the truth, and only then
// gives the copy its name: a copy never stands without its truth.
func (p *poisoning) write(ctx context.Context, a attack.Attack, plan *attack.Plan, clean, poisoned, test *dataset.Set) error {
	truth, err := attack.NewTruth(clean, plan, a)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(p.out), ".poison-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	copied := filepath.Join(tmp, filepath.Base(p.out))
	written, err := dataset.Write(ctx, copied, poisoned, test, reading(p.events))
	if err != nil {
		return fmt.Errorf("write %s: %w", p.out, err)
	}
	if err := truth.Remap(func(i int) int { return written.Index[i] }); err != nil {
		return err
	}
	truth.Source, truth.Poisoned = clean.Fingerprint(), poisoned.Subset(inverse(written.Index)).Fingerprint()
	if err := truth.Write(p.truth); err != nil {
		return err
	}
	if err := p.drawPreview(clean, poisoned, plan); err != nil {
		return errors.Join(err, os.Remove(p.truth))
	}
	if err := os.Rename(copied, p.out); err != nil {
		return errors.Join(err, os.Remove(p.truth))
	}
	return nil
}

// inverse turns "sample i is at index[i]" into "at i is sample inverse[i]".
func inverse(index []int) []int {
	out := make([]int, len(index))
	for i, at := range index {
		out[at] = i
	}
	return out
}

func (p *poisoning) drawPreview(clean, poisoned *dataset.Set, plan *attack.Plan) error {
	if p.preview == "" {
		return nil
	}
	var png bytes.Buffer
	if err := attack.Preview(&png, clean, poisoned, plan, previewSamples); err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	return atomicfile.Write(p.preview, func(w io.Writer) error {
		_, err := w.Write(png.Bytes())
		return err
	})
}

func (p *poisoning) summary(w io.Writer, plan *attack.Plan, set *dataset.Set) error {
	lines := []string{
		fmt.Sprintf("poisoned  %s: %d of %d training samples, %s %s, target %q",
			p.out, len(plan.Indices), set.Len(), p.attack, plan.Mode, set.Classes[plan.Target]),
		"truth     " + p.truth,
	}
	if p.preview != "" {
		lines = append(lines, "preview   "+p.preview)
	}
	next := "next      cordon clean " + p.out + " -o " + p.out + "-run"
	if p.size > 0 {
		next += fmt.Sprintf(" --size %d", p.size)
	}
	_, err := fmt.Fprintln(w, oneLines(append(lines, next)))
	return err
}

// oneLines joins lines, each made safe for a terminal.
func oneLines(lines []string) string {
	for i, line := range lines {
		lines[i] = oneLine(line)
	}
	return strings.Join(lines, "\n")
}
