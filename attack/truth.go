package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"cordon/dataset"
	"cordon/internal/atomicfile"
)

// TruthVersion is the version of the truth file's schema that is written and read.
const TruthVersion = 1

// maxTruthBytes bounds a truth file: about a million poisoned samples.
const maxTruthBytes = 64 << 20

// Truth records what was poisoned in a set, and how. It lives apart from the
// data: cleaning never sees it, evaluation joins results with it. Attack, Mode,
// Target, Rate and Seed rebuild the poisoned set from its source.
type Truth struct {
	Version int       `json:"version"`
	Attack  Spec      `json:"attack"`
	Mode    LabelMode `json:"mode"`
	Target  int       `json:"target"`
	Rate    float64   `json:"rate"` // fraction of all training samples
	Seed    uint64    `json:"seed"` // drew the samples
	// Source and Poisoned are the fingerprints of the training set before and
	// after. The writer of the file sets them.
	Source   string   `json:"source"`
	Poisoned string   `json:"poisoned"`
	Shape    Shape    `json:"shape"`
	Classes  []string `json:"classes"`
	Samples  int      `json:"samples"` // in the training set, poisoned or not
	// Changed lists the poisoned samples in ascending order.
	Changed []Changed `json:"changed"`
}

// Changed is one poisoned sample.
type Changed struct {
	Index int   `json:"index"` // position in the poisoned set as it is read back
	Label int32 `json:"label"` // the label it had before
}

// NewTruth describes what Apply does to source by plan with the trigger of a.
// Source, Poisoned and, if the poisoned set is read back in another order,
// Remap are left to the caller.
func NewTruth(source *dataset.Set, plan *Plan, a Attack) (*Truth, error) {
	if err := plan.check(source); err != nil {
		return nil, err
	}
	t := &Truth{
		Version: TruthVersion, Attack: SpecOf(a),
		Mode: plan.Mode, Target: plan.Target, Rate: plan.Rate, Seed: plan.Seed,
		Shape: ShapeOf(source), Classes: slices.Clone(source.Classes), Samples: source.Len(),
		Changed: make([]Changed, len(plan.Indices)),
	}
	for k, i := range plan.Indices {
		t.Changed[k] = Changed{i, source.Labels[i]}
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// Indices returns the positions of the poisoned samples, ascending.
func (t *Truth) Indices() []int {
	indices := make([]int, len(t.Changed))
	for k, c := range t.Changed {
		indices[k] = c.Index
	}
	return indices
}

// Remap moves every index to newIndex(index), for a set that is read back in
// another order (dataset.Written.Index has the new positions). It refuses an index outside the set or given twice, and then
// leaves t as it was.
func (t *Truth) Remap(newIndex func(old int) int) error {
	moved := slices.Clone(t.Changed)
	for k := range moved {
		moved[k].Index = newIndex(moved[k].Index)
	}
	slices.SortFunc(moved, func(a, b Changed) int { return a.Index - b.Index })
	changed := *t
	changed.Changed = moved
	if err := changed.validateChanged(); err != nil {
		return fmt.Errorf("remap truth: %w", err)
	}
	t.Changed = moved
	return nil
}

// Validate refuses a truth that contradicts itself or the schema.
func (t *Truth) Validate() error {
	if t.Version != TruthVersion {
		return fmt.Errorf("truth version %d: this program knows version %d", t.Version, TruthVersion)
	}
	if t.Attack.Name == "" {
		return errors.New("attack has no name")
	}
	opt := PlanOptions{Rate: t.Rate, Target: t.Target, Mode: t.Mode, Seed: t.Seed}
	if err := opt.Validate(); err != nil {
		return err
	}
	if t.Target >= len(t.Classes) {
		return noClass(t.Target, t.Classes)
	}
	if err := t.Shape.Validate(); err != nil {
		return err
	}
	if t.Samples < 1 {
		return fmt.Errorf("a set of %d samples", t.Samples)
	}
	if want := poisonCount(t.Rate, t.Samples); len(t.Changed) != want {
		return fmt.Errorf("%d poisoned samples, but rate %v of %d is %d", len(t.Changed), t.Rate, t.Samples, want)
	}
	return t.validateChanged()
}

// validateChanged checks ranges, order and labels of the poisoned samples.
func (t *Truth) validateChanged() error {
	for k, c := range t.Changed {
		switch {
		case c.Index < 0 || c.Index >= t.Samples:
			return fmt.Errorf("poisoned sample %d: the set has %d samples", c.Index, t.Samples)
		case k > 0 && c.Index == t.Changed[k-1].Index:
			return fmt.Errorf("poisoned sample %d: listed twice", c.Index)
		case k > 0 && c.Index < t.Changed[k-1].Index:
			return fmt.Errorf("poisoned sample %d: listed after %d, must ascend", c.Index, t.Changed[k-1].Index)
		case c.Label < 0 || int(c.Label) >= len(t.Classes):
			return fmt.Errorf("poisoned sample %d: label %d of %d classes", c.Index, c.Label, len(t.Classes))
		case (int(c.Label) == t.Target) != (t.Mode == CleanLabel):
			return fmt.Errorf("poisoned sample %d: label %d contradicts %s with target %d", c.Index, c.Label, t.Mode, t.Target)
		}
	}
	return nil
}

// Write validates t, which must have both fingerprints by now, and writes it to path as JSON.
func (t *Truth) Write(path string) error {
	if err := t.complete(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(t) })
}

// ReadTruth reads and validates the truth file at path. What is wrong in the
// file is a *dataset.FormatError.
func ReadTruth(path string) (*Truth, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read truth: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTruthBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read truth: %w", err)
	}
	t, err := parseTruth(data)
	if err != nil {
		return nil, &dataset.FormatError{Path: path, Offset: offsetOf(err), Reason: err.Error(), Err: err}
	}
	return t, nil
}

// parseTruth reads one JSON value and nothing else.
func parseTruth(data []byte) (*Truth, error) {
	if len(data) > maxTruthBytes {
		return nil, fmt.Errorf("larger than the %d bytes a truth file may have", maxTruthBytes)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	t := &Truth{}
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("not a truth file: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more data after the truth")
	}
	if err := t.complete(); err != nil {
		return nil, err
	}
	return t, nil
}

// complete refuses a truth that is invalid or lacks a fingerprint.
func (t *Truth) complete() error {
	if err := t.Validate(); err != nil {
		return err
	}
	if t.Source == "" || t.Poisoned == "" {
		return errors.New("a fingerprint is missing")
	}
	return nil
}

// offsetOf returns the position of a JSON fault, -1 for other faults.
func offsetOf(err error) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset
	case errors.As(err, &kind):
		return kind.Offset
	}
	return -1
}
