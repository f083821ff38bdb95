package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/inspect"
)

const (
	// inspectSize is what image files are read at where the user does not say:
	// near copies and channel statistics hardly depend on it.
	inspectSize = 64
	// shownGroups and shownImages bound the examples in the text; the JSON has
	// all.
	shownGroups = 5
	shownImages = 6
)

// inspecting is one call of cordon data inspect.
type inspecting struct {
	data    string
	store   string
	size    int
	json    bool
	skipBad bool
}

func newDataInspect() *cobra.Command {
	i := &inspecting{}
	cmd := &cobra.Command{
		Use:   "inspect DATA",
		Short: "say what is in an image set: counts, copies, bad files",
		Long: `Reads an image set and says what is in it before anything is trained: images of
each class and split, sizes, channel statistics, files that cannot be read, exact
copies, near copies, images that are in both splits.

Copies are judged by the decoded pixels of the files, not at --size. Near copies
differ a little, as after another compression or with a small patch.

Unreadable files do not stop it where their class has others, but it then exits
with 1, unless --skip-bad accepts them.

` + exitCodesHelp,
		Example: "  cordon data inspect photos --json >photos.json",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			i.data = args[0]
			return i.run(cmd)
		},
	}
	f := cmd.Flags()
	f.IntVar(&i.size, "size", inspectSize, "read image files at `N` × N pixels")
	addStore(cmd, &i.store)
	f.BoolVar(&i.json, "json", false, "print one JSON object")
	f.BoolVar(&i.skipBad, "skip-bad", false, "exit with 0 although image files cannot be read")
	return cmd
}

func (i *inspecting) run(cmd *cobra.Command) error {
	if err := outside(i.data, i.store); err != nil {
		return err
	}
	events := event.NewTerminal(cmd.ErrOrStderr())
	report, err := i.inspect(cmd.Context(), events)
	if err != nil {
		return err
	}
	if i.json {
		out := json.NewEncoder(cmd.OutOrStdout())
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = printInspection(cmd.OutOrStdout(), report)
	}
	if err != nil {
		return err
	}
	if n := len(report.Unreadable); n > 0 && !i.skipBad {
		return &hinted{fmt.Errorf("%s: %s cannot be read", i.data, plural(n, "file")), "repair or remove them, or leave them out with --skip-bad"}
	}
	return nil
}

// inspect reads the set; only image files are resized, so that nothing else
// depends on a size.
func (i *inspecting) inspect(ctx context.Context, events event.Sink) (*inspect.Report, error) {
	opt := dataset.Options{SkipBad: true, Store: i.store}
	train, test, err := openData(ctx, i.data, opt, events)
	if errors.Is(err, dataset.ErrNeedsSize) {
		opt.Size = i.size
		train, test, err = openData(ctx, i.data, opt, events)
	}
	if err != nil {
		return nil, err
	}
	defer train.Close()
	defer test.Close()
	opt.Progress = reading(events)
	first, err := i.part(ctx, train, opt)
	if err != nil {
		return nil, err
	}
	second, err := i.part(ctx, test, opt)
	if err != nil {
		return nil, err
	}
	return inspect.Inspect(ctx, first, second)
}

// part adds the images to a split; there may be none.
func (i *inspecting) part(ctx context.Context, set *dataset.Set, opt dataset.Options) (*inspect.Part, error) {
	if set == nil {
		return nil, nil
	}
	images, err := dataset.FileImages(ctx, i.data, set, opt)
	return &inspect.Part{Set: set, FileImages: images}, err
}

// inspection writes a report for people.
type inspection struct {
	*inspect.Report
	lines []string
}

func printInspection(w io.Writer, r *inspect.Report) error {
	p := &inspection{Report: r}
	p.data()
	p.classes()
	p.unreadable()
	p.copies()
	p.near()
	_, err := fmt.Fprintln(w, strings.Join(p.lines, "\n"))
	return err
}

// add adds a line with a heading in the left column.
func (p *inspection) add(heading, format string, args ...any) {
	line := fmt.Sprintf("%-12s", oneLine(heading)) + oneLine(fmt.Sprintf(format, args...))
	p.lines = append(p.lines, strings.TrimRight(line, " "))
}

func (p *inspection) data() {
	text := fmt.Sprintf("%s, format %s: %s, %s", p.Data.Name, p.Data.Format, plural(len(p.Classes), "class"), plural(p.Train.Images, "training image"))
	if p.Test == nil {
		p.add("data", "%s, no test split", text)
	} else {
		p.add("data", "%s, %s", text, plural(p.Test.Images, "test image"))
	}
	p.split("training", p.Train)
	if p.Test != nil {
		p.split("test", *p.Test)
	}
	if p.Data.Width != p.Train.Width.Max || p.Train.Width.Min != p.Train.Width.Max {
		p.add("", "channels as read at %d×%d (--size)", p.Data.Width, p.Data.Height)
	}
}

func (p *inspection) split(name string, s inspect.Split) {
	p.add(name, "pixels %s wide, %s high; channels mean %s, standard deviation %s",
		extent(s.Width), extent(s.Height), decimals(s.Mean), decimals(s.Std))
}

func extent(r inspect.Range) string {
	if r.Min == r.Max {
		return fmt.Sprint(r.Min)
	}
	return fmt.Sprintf("%d to %d (median %d)", r.Min, r.Max, r.Median)
}

func decimals(values []float64) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprintf("%.4f", v)
	}
	return strings.Join(texts, " ")
}

func (p *inspection) classes() {
	p.add("", "")
	p.add("class", "training  test")
	for _, c := range p.Classes {
		p.add(c.Name, "%-8d  %d", c.Train, c.Test)
	}
	if p.Imbalance.Ratio == 1 {
		p.add("balance", "all classes have as many training images")
	} else {
		p.add("balance", "class %s has %.3g times as many training images as class %s", p.Imbalance.Largest, p.Imbalance.Ratio, p.Imbalance.Smallest)
	}
	if missing := p.Imbalance.MissingInTest; len(missing) > 0 {
		p.add("", "no test images of %s: the test says nothing of these", strings.Join(missing, ", "))
	}
}

func (p *inspection) unreadable() {
	p.add("", "")
	if len(p.Unreadable) == 0 {
		p.add("unreadable", "none")
		return
	}
	p.add("unreadable", "%s, left out of everything here", plural(len(p.Unreadable), "file"))
	for _, f := range p.Unreadable {
		p.add("", "%s: %s", f.File, f.Reason)
	}
}

func (p *inspection) copies() {
	p.add("", "")
	p.add("copies", "training: %s, %d distinct, %s", plural(p.Train.Images, "image"), p.Train.Distinct, plural(p.Train.Copies, "exact copy"))
	if p.Test != nil {
		p.add("", "test: %s, %d distinct, %s", plural(p.Test.Images, "image"), p.Test.Distinct, plural(p.Test.Copies, "exact copy"))
		p.add("", "in both: %s (%s, %s)", plural(p.Across.Test, "test image"), plural(p.Across.Train, "training image"), plural(p.Across.Distinct, "distinct image"))
	}
	p.groups(p.Copies)
	if p.Train.Copies > 0 {
		p.add("", "Copies are memorised early: cordon ranks by low loss, so they can look like poison and hide it.")
	}
	if p.Across.Test > 0 {
		p.add("", "Test images that were trained on make the measured accuracy too high.")
	}
	if p.Train.Copies+p.Across.Test > 0 {
		p.add("", "cordon data convert DATA -o OUT --size N --drop-copies leaves exact copies out.")
	}
	if different(p.Copies) > 0 {
		p.add("", "Equal images with different labels cannot all be right: look at these first.")
	}
}

func (p *inspection) near() {
	p.add("", "")
	if len(p.Near.Groups) == 0 {
		p.add("near", "no near copies")
	} else {
		p.add("near", "%s that differ little from another, in %s", plural(p.Near.Images, "distinct image"), plural(len(p.Near.Groups), "group"))
		p.groups(p.Near.Groups)
		p.add("", "Simple drawings such as digits are alike by nature. In photographs these are frames of one scene,")
		p.add("", "other compressions, or copies with a mark: with different labels or in both splits they deserve a look.")
	}
	if !p.Near.Complete {
		p.add("", "So many images are alike that not all pairs were compared: there may be more.")
	}
}

// groups shows the first groups.
func (p *inspection) groups(groups []inspect.Group) {
	if len(groups) == 0 {
		return
	}
	p.add("", "%s, %d with different labels:", plural(len(groups), "group"), different(groups))
	for _, g := range groups[:min(len(groups), shownGroups)] {
		p.add("", "- %s", members(g))
	}
	if left := len(groups) - shownGroups; left > 0 {
		p.add("", "- and %d more (--json has all)", left)
	}
}

func different(groups []inspect.Group) int {
	n := 0
	for _, g := range groups {
		if g.DifferentLabels {
			n++
		}
	}
	return n
}

func members(g inspect.Group) string {
	var texts []string
	for _, image := range g.Images[:min(len(g.Images), shownImages)] {
		texts = append(texts, name(image))
	}
	if left := len(g.Images) - shownImages; left > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", left))
	}
	return strings.Join(texts, ", ")
}

// name is the file of an image, or its split, number and class.
func name(i inspect.Image) string {
	if strings.HasPrefix(i.Key, "#") {
		return fmt.Sprintf("%s %s (%s)", i.Split, i.Key, i.Class)
	}
	return i.Key
}

// plural counts things whose plural ends in -s, -es or -ies.
func plural(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "s"):
		thing += "es"
	case strings.HasSuffix(thing, "y"):
		thing = strings.TrimSuffix(thing, "y") + "ies"
	default:
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
