package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cordon/attack"
	"cordon/dataset"
	"cordon/internal/atomicfile"
	"cordon/internal/catalog"
	"cordon/internal/event"
	"cordon/internal/recipe"
	"cordon/internal/regular"
)

// poisoning is one call of cordon poison.
type poisoning struct {
	data, out      string
	recipe         string
	part           partFlags
	enlarge        []string
	seed           uint64
	size           int
	store          string
	skipBad        bool
	truth, preview string
	json           bool
	events         event.Sink
}

// partFlags are the one part of a poisoning without a recipe.
type partFlags struct {
	attack, target, mode     string
	rate, coverRate          float64
	stratified               bool
	params, cover, testImage []string
}

// detailFlagNames are the flags that say how an attack poisons, partFlagNames all
// that a recipe replaces.
var (
	detailFlagNames = []string{"target", "rate", "cover-rate", "stratified", "param", "cover-param", "test-param"}
	partFlagNames   = slices.Concat([]string{"attack", "mode", "enlarge"}, detailFlagNames)
)

func newPoison() *cobra.Command {
	p := &poisoning{}
	cmd := &cobra.Command{
		Use:   "poison DATA -o OUT --target CLASS",
		Short: "make a poisoned copy of a data set, for tests",
		Long: `Makes a copy of the data set DATA, in its own format, with a backdoor in the
training split; the test split stays clean. What was poisoned is written to a
truth file beside the copy, for cordon eval. DATA itself is never changed.
Without -o, --truth writes the plan of the poisoning alone, and --preview only
draws it.

Label modes:
  dirty-label  samples of other classes get the target label
  clean-label  samples of the target class keep their label
  all-to-all   samples of every class get the next class's label
  label-noise  samples of every class get any other label (--attack none)

Attacks, each with its usual label mode and the parameters for --param:
` + attackList() + `
Several targets or triggers at once are the parts of a recipe (TOML); see
docs/formats.md and recipes/poison.

` + exitCodesHelp,
		Example: `  cordon poison mnist -o poisoned --attack badnets --rate 0.1 --target 3
  cordon poison mnist -o noisy --attack none --mode label-noise --rate 0.05
  cordon poison cifar-10-batches-bin --recipe recipes/poison/every-attack.toml --preview all.png`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.data = args[0]
			recipe, err := p.choose(cmd)
			if err != nil {
				return err
			}
			if err := recipe.Check(); err != nil {
				return &usageError{err}
			}
			return p.run(cmd.Context(), newConsole(cmd, p.json), recipe)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&p.out, "out", "o", "", "folder to make")
	f.StringVar(&p.part.attack, "attack", "badnets", "the trigger")
	f.StringVar(&p.part.target, "target", "", "target class: its name or number")
	f.StringVar(&p.part.mode, "mode", "", "label mode (default: the attack's usual one)")
	f.Float64Var(&p.part.rate, "rate", 0.1, "poison rate: share of all training samples")
	f.Float64Var(&p.part.coverRate, "cover-rate", 0, "share of all training samples that carry the trigger and their true label")
	f.BoolVar(&p.part.stratified, "stratified", false, "draw the samples from every class in proportion, not by chance alone")
	f.StringArrayVar(&p.part.params, "param", nil, "set a parameter of the attack, `name=value`; can be repeated")
	f.StringArrayVar(&p.part.cover, "cover-param", nil, "a parameter that differs in cover samples, `name=value`")
	f.StringArrayVar(&p.part.testImage, "test-param", nil, "a parameter that differs in test images, `name=value`")
	f.StringSliceVar(&p.enlarge, "enlarge", nil, "`variants` of every training image to write, poison and all, or paper (cordon data convert --help)")
	f.StringVar(&p.recipe, "recipe", "", "poison recipe `file` (TOML), instead of the options above")
	f.Uint64Var(&p.seed, "seed", 0, "chooses the samples, draws the jitter of --enlarge (default: the recipe's, or 0)")
	f.IntVar(&p.size, "size", 0, "resize images to `N` × N pixels; images in files of their own need it")
	f.StringVar(&p.truth, "truth", "", "truth file (default OUT.truth.json)")
	f.StringVar(&p.preview, "preview", "", "also draw clean and poisoned samples into this PNG `file`")
	addSkipBad(cmd, &p.skipBad)
	addStore(cmd, &p.store)
	addJSON(cmd, &p.json)
	return cmd
}

// attackList describes every attack with its parameters and their defaults.
func attackList() string {
	var b strings.Builder
	for _, a := range catalog.Attacks() {
		fmt.Fprintf(&b, "  %-8s %s", a.Name(), a.Summary())
		if a.Mode() != "" {
			fmt.Fprintf(&b, "; %s", a.Mode())
		}
		b.WriteByte('\n')
		for _, p := range attack.Params(a) {
			fmt.Fprintf(&b, "             %-22s %s\n", p.Name+"="+p.Value, p.Meaning)
		}
	}
	return b.String()
}

// choose reads the recipe, or makes one of one part from the flags.
func (p *poisoning) choose(cmd *cobra.Command) (catalog.Poisoning, error) {
	if p.out == "" && p.truth == "" && p.preview == "" {
		return catalog.Poisoning{}, usagef("poison needs --out, --truth or --preview")
	}
	if p.recipe == "" {
		if err := p.part.idle(cmd); err != nil {
			return catalog.Poisoning{}, err
		}
		part, err := p.part.parts()
		return catalog.Poisoning{Seed: p.seed, Parts: part, Enlarge: p.enlarge}, err
	}
	for _, name := range partFlagNames {
		if cmd.Flags().Changed(name) {
			return catalog.Poisoning{}, usagef("--%s and --recipe exclude each other", name)
		}
	}
	file, err := regular.Open(p.recipe)
	if err != nil {
		return catalog.Poisoning{}, err
	}
	defer file.Close()
	recipe, err := catalog.ReadPoisoning(file)
	if err != nil {
		return recipe, p.recipeFailed(err)
	}
	if cmd.Flags().Changed("seed") {
		recipe.Seed = p.seed
	}
	return recipe, nil
}

// recipeFailed names the recipe and, where it is one of a run, the right command.
func (p *poisoning) recipeFailed(err error) error {
	err = usagef("%s: %w", p.recipe, err)
	if _, other := recipe.Read(p.recipe); other == nil {
		return &hinted{err, "this is the recipe of a run: cordon clean DATA --recipe FILE"}
	}
	return err
}

// nothing tells whether neither pixels nor labels are to change.
func (f partFlags) nothing() bool { return f.attack == attack.NoTrigger && f.mode == "" }

// idle refuses options of a poison where there is none.
func (f partFlags) idle(cmd *cobra.Command) error {
	if !f.nothing() {
		return nil
	}
	for _, name := range detailFlagNames {
		if cmd.Flags().Changed(name) {
			return usagef("--%s: --attack none poisons nothing; with --mode label-noise it makes wrong labels", name)
		}
	}
	return nil
}

// parts returns the part that the flags describe: none without a trigger and a
// label mode.
func (f partFlags) parts() ([]catalog.PoisonPart, error) {
	part := catalog.PoisonPart{Attack: f.attack, Mode: f.mode, Target: f.target, Rate: &f.rate, CoverRate: f.coverRate, Stratified: f.stratified}
	for _, p := range []struct {
		flag     string
		settings []string
		into     *map[string]any
	}{{"param", f.params, &part.Params}, {"cover-param", f.cover, &part.Cover}, {"test-param", f.testImage, &part.Test}} {
		*p.into = map[string]any{}
		for _, setting := range p.settings {
			name, value, ok := strings.Cut(setting, "=")
			if !ok {
				return nil, usagef("--%s %q: want name=value", p.flag, setting)
			}
			(*p.into)[name] = value
		}
	}
	if f.nothing() {
		return nil, nil
	}
	return []catalog.PoisonPart{part}, nil
}

func (p *poisoning) run(ctx context.Context, term *console, recipe catalog.Poisoning) error {
	p.events = term.events
	if err := p.checkPaths(); err != nil {
		return err
	}
	clean, test, err := readData(ctx, p.data, dataset.Options{Size: p.size, SkipBad: p.skipBad, Store: p.store}, p.events)
	if err != nil {
		return err
	}
	defer clean.Close()
	defer test.Close()
	note(p.events, "%s", describe(clean, test))
	parts, err := recipe.For(clean.Classes)
	if err != nil {
		return &usageError{err}
	}
	truth, err := attack.Plan(ctx, clean, recipe.Seed, parts)
	if err != nil {
		return &usageError{err}
	}
	if variants := dataset.Variants(recipe.Enlarge); len(variants) > 0 {
		if truth, err = truth.Enlarge(variants, recipe.Seed); err != nil {
			return usagef("enlarge: %w", err)
		}
	}
	// The set is the plan's: what can be wrong is a trigger.
	poisoned, err := truth.Apply(ctx, clean, catalog.AttackFromSpec)
	if err != nil {
		return &usageError{err}
	}
	if empty := slices.Index(poisoned.Counts(), 0); empty >= 0 {
		return usagef("this poison leaves class %q without training images", clean.Classes[empty])
	}
	for _, part := range parts {
		if part.CoverRate > 0 && part.Cover.String() == part.Train.String() {
			note(p.events, "%s: covers carry the very trigger of the poisoned samples; --cover-param or cover = { … } makes them differ", part)
		}
	}
	if err := p.write(ctx, truth, clean, poisoned, test); err != nil {
		return err
	}
	if err := p.summary(term.out, truth); err != nil {
		return err
	}
	return term.finish(fmt.Sprintf("%d samples changed", len(truth.Changed)), nil)
}

// checkPaths refuses to overwrite anything and to mix truth, copy and source.
func (p *poisoning) checkPaths() error {
	if p.out != "" {
		p.out = filepath.Clean(p.out)
		p.truth = cmp.Or(p.truth, p.out+".truth.json")
	}
	for _, path := range []string{p.out, p.truth, p.preview} {
		if path == "" {
			continue
		}
		if err := absent(path); err != nil {
			return err
		}
		if err := outside(p.data, path); err != nil {
			return err
		}
	}
	if p.out != "" && (within(p.out, p.truth) || within(p.out, p.preview)) {
		return usagef("the truth must not lie inside the data set %s", p.out)
	}
	if p.out != "" && within(p.out, p.store) {
		return usagef("the store must not lie inside the data set %s", p.out)
	}
	if p.preview != "" && filepath.Clean(p.preview) == filepath.Clean(p.truth) {
		return usagef("the preview and the truth are both to be written to %s", p.preview)
	}
	return outside(p.data, p.store)
}

// write makes the copy in a hidden folder, writes the truth, and only then
// gives the copy its name: a copy never stands without its truth.
func (p *poisoning) write(ctx context.Context, truth *attack.Truth, clean, poisoned, test *dataset.Set) error {
	if p.out == "" {
		var err error
		if truth.Poisoned, err = poisoned.Fingerprint(ctx); err != nil {
			return err
		}
		return p.record(truth, clean, poisoned)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(p.out), "."+filepath.Base(p.out)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	copied := filepath.Join(tmp, filepath.Base(p.out))
	written, err := dataset.Write(ctx, copied, poisoned, test, writing(p.events))
	if err != nil {
		return fmt.Errorf("write %s: %w", p.out, err)
	}
	if err := truth.Remap(func(i int) int { return written.Index[i] }); err != nil {
		return err
	}
	if truth.Poisoned, err = poisoned.Subset(inverse(written.Index)).Fingerprint(ctx); err != nil {
		return err
	}
	if err := p.record(truth, clean, poisoned); err != nil {
		return err
	}
	if err := os.Rename(copied, p.out); err != nil {
		return errors.Join(err, os.Remove(p.truth))
	}
	return nil
}

// record writes the truth and the preview, both or none.
func (p *poisoning) record(truth *attack.Truth, clean, poisoned *dataset.Set) error {
	if p.truth != "" {
		if err := truth.Write(p.truth); err != nil {
			return err
		}
	}
	err := p.drawPreview(clean, poisoned, truth)
	if err != nil && p.truth != "" {
		return errors.Join(err, os.Remove(p.truth))
	}
	return err
}

// inverse turns "sample i is at index[i]" into "at i is sample inverse[i]".
func inverse(index []int) []int {
	out := make([]int, len(index))
	for i, at := range index {
		out[at] = i
	}
	return out
}

func (p *poisoning) drawPreview(clean, poisoned *dataset.Set, truth *attack.Truth) error {
	if p.preview == "" {
		return nil
	}
	var png bytes.Buffer
	if err := attack.Preview(&png, clean, poisoned, truth); err != nil {
		return err
	}
	return atomicfile.Write(p.preview, func(w io.Writer) error {
		_, err := w.Write(png.Bytes())
		return err
	})
}

func (p *poisoning) summary(w io.Writer, truth *attack.Truth) error {
	var lines []string
	for k, part := range truth.Parts {
		line := fmt.Sprintf("poisoned  %d of %d training samples", truth.Count(k, attack.Poisoned), truth.Samples)
		if covers := truth.Count(k, attack.Cover); covers > 0 {
			line += fmt.Sprintf(", %d covers", covers)
		}
		lines = append(lines, line+": "+part.Describe(truth.Classes))
	}
	if len(lines) == 0 {
		lines = []string{"poisoned  nothing"}
	}
	for _, made := range []struct{ what, file string }{{"copy", p.out}, {"truth", p.truth}, {"preview", p.preview}} {
		if made.file != "" {
			lines = append(lines, fmt.Sprintf("%-10s%s", made.what, made.file))
		}
	}
	if p.out != "" {
		next := "next      cordon clean " + p.out + " -o " + p.out + "-run"
		if p.size > 0 {
			next += fmt.Sprintf(" --size %d", p.size)
		}
		lines = append(lines, next)
	}
	_, err := fmt.Fprintln(w, oneLines(lines))
	return err
}

// oneLines joins lines, each made safe for a terminal.
func oneLines(lines []string) string {
	for i, line := range lines {
		lines[i] = oneLine(line)
	}
	return strings.Join(lines, "\n")
}
