package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cordon/dataset"
	"cordon/internal/event"
)

// converting is one call of cordon data convert.
type converting struct {
	data, out, format string
	size              int
	crop, skipBad     bool
	dropCopies        bool
	store             string
	enlarge           []string
	seed              uint64
	json              bool
	events            event.Sink
}

func newDataConvert() *cobra.Command {
	c := &converting{}
	cmd := &cobra.Command{
		Use:   "convert DATA -o OUT",
		Short: "write a data set in another format, size or number",
		Long: `Writes the data set DATA anew into the folder OUT, which must not exist. DATA
itself is never changed.

Formats:
  idx        MNIST's files: grey images, class names become numbers
  cifar10    32×32 images in 10 classes
  cifar100   32×32 images in 100 classes, without coarse labels unless DATA has them
  folder     PNG files in train/CLASS and test/CLASS
  csv        PNG files and manifest.csv, which keeps the order of the images
  jsonl      PNG files and manifest.jsonl
Without --format it is that of DATA; TSRD becomes csv. What a format cannot hold
is refused.

--drop-copies leaves out what cordon data inspect calls exact copies, judged by the
pixels that are written: of equal images the first stays, whatever their labels,
and of those in both splits the training image.

--enlarge makes the training split larger: each of the named variants of every
image, first all images in the first variant, then all in the second. Variants:
  original, centercrop, colorjitter, grayscale, hflip, vflip
"paper" stands for the last five, with which the paper makes TSRD five times as
large.

` + exitCodesHelp,
		Example: `  cordon data convert tsrd -o signs --size 64 --crop --enlarge paper
  cordon data convert mnist -o pictures --format folder`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.data = args[0]
			return c.run(cmd.Context(), newConsole(cmd, c.json))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.out, "out", "o", "", "folder to make (required)")
	f.StringVar(&c.format, "format", "", "format of OUT")
	f.IntVar(&c.size, "size", 0, "resize images to `N` × N pixels; images in files of their own need it")
	f.BoolVar(&c.crop, "crop", false, "cut images to the boxes that TSRD or a manifest gives")
	f.BoolVar(&c.dropCopies, "drop-copies", false, "leave out images that equal an earlier one, and test images that are training images")
	f.StringSliceVar(&c.enlarge, "enlarge", nil, "`variants` to write of every training image, or paper")
	f.Uint64Var(&c.seed, "seed", 0, "draws the colour jitter of --enlarge")
	addSkipBad(cmd, &c.skipBad)
	addStore(cmd, &c.store)
	addJSON(cmd, &c.json)
	return cmd
}

func (c *converting) run(ctx context.Context, term *console) error {
	c.events = term.events
	if err := c.check(); err != nil {
		return err
	}
	opt := dataset.Options{Size: c.size, Crop: c.crop, SkipBad: c.skipBad, Store: c.store}
	train, test, err := readData(ctx, c.data, opt, c.events)
	if err != nil {
		return err
	}
	defer train.Close()
	defer test.Close()
	note(c.events, "%s", describe(train, test))
	if train, test, err = c.distinct(ctx, train, test); err != nil {
		return err
	}
	if train, err = c.enlarged(train); err != nil {
		return err
	}
	train, test = c.reformatted(train, test)
	if err := c.write(ctx, train, test); err != nil {
		return err
	}
	if err := c.summary(term.out, train, test); err != nil {
		return err
	}
	return term.finish("converted copy in "+c.out, nil)
}

// check refuses options that cannot be meant, and to overwrite anything.
func (c *converting) check() error {
	if c.out == "" {
		return usagef("convert needs --out")
	}
	if c.format != "" && !slices.Contains(dataset.Formats(), c.format) {
		return usagef("--format %q: want one of %s", c.format, strings.Join(dataset.Formats(), ", "))
	}
	c.out = filepath.Clean(c.out)
	if err := outside(c.data, c.out); err != nil {
		return err
	}
	if err := absent(c.out); err != nil {
		return err
	}
	return outside(c.data, c.store)
}

// distinct returns the sets without copies, if asked to: what is in both is left
// out of the test split, which then measures what was learned.
func (c *converting) distinct(ctx context.Context, train, test *dataset.Set) (newTrain, newTest *dataset.Set, err error) {
	if !c.dropCopies {
		return train, test, nil
	}
	if newTrain, err = train.WithoutCopies(ctx, nil); err != nil {
		return nil, nil, err
	}
	if empty := slices.Index(newTrain.Counts(), 0); empty >= 0 {
		return nil, nil, fmt.Errorf("without copies class %q has no training images", train.Classes[empty])
	}
	if test == nil {
		note(c.events, "left out as copies: %d training images", train.Len()-newTrain.Len())
		return newTrain, nil, nil
	}
	if newTest, err = test.WithoutCopies(ctx, newTrain); err != nil {
		return nil, nil, err
	}
	note(c.events, "left out as copies: %d training and %d test images", train.Len()-newTrain.Len(), test.Len()-newTest.Len())
	if newTest.Len() == 0 {
		return nil, nil, errors.New("every test image is a training image")
	}
	return newTrain, newTest, nil
}

// enlarged returns the training set with the variants asked for.
func (c *converting) enlarged(train *dataset.Set) (*dataset.Set, error) {
	if len(c.enlarge) == 0 {
		return train, nil
	}
	out, err := train.Enlarge(dataset.Variants(c.enlarge), c.seed)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--enlarge: %w", err)}
	}
	return out, nil
}

// reformatted returns the sets in the format asked for.
func (c *converting) reformatted(train, test *dataset.Set) (newTrain, newTest *dataset.Set) {
	if c.format == "" {
		return train, test
	}
	if newTrain = train.InFormat(c.format); test != nil {
		newTest = test.InFormat(c.format)
	}
	if !slices.Equal(newTrain.Classes, train.Classes) {
		note(c.events, "%s has the classes in another order", c.format)
	}
	return newTrain, newTest
}

func (c *converting) write(ctx context.Context, train, test *dataset.Set) error {
	if _, err := dataset.Write(ctx, c.out, train, test, writing(c.events)); err != nil {
		return err
	}
	if train.Format == "idx" && !slices.Equal(train.Classes, numbers(len(train.Classes))) {
		note(c.events, "idx keeps no names of classes: they are now numbers, in the same order")
	}
	return nil
}

// numbers returns "0", "1", … as far as n-1.
func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i)
	}
	return out
}

func (c *converting) summary(w io.Writer, train, test *dataset.Set) error {
	tests := 0
	if test != nil {
		tests = test.Len()
	}
	format, size := train.Format, ""
	if train.Format == "tsrd" {
		format = "csv"
	}
	if !slices.Contains([]string{"idx", "cifar10", "cifar100"}, format) {
		size = fmt.Sprintf(" --size %d", train.Height)
	}
	_, err := fmt.Fprintln(w, oneLines([]string{
		fmt.Sprintf("converted %s: %d training and %d test images of %d×%d, %s", c.out, train.Len(), tests, train.Height, train.Width, format),
		"next      cordon clean " + c.out + " -o " + c.out + "-run" + size,
	}))
	return err
}
