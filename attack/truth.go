package attack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"cordon/dataset"
	"cordon/internal/atomicfile"
	"cordon/internal/regular"
)

// TruthVersion is the version of the truth file's schema that is written and read.
const TruthVersion = 2

// maxTruthBytes bounds a truth file: about a million changed samples.
const maxTruthBytes = 128 << 20

// maxChanged bounds the changed samples: each takes more than 64 bytes.
const maxChanged = maxTruthBytes / 64

// maxParts bounds the parts of a poisoning.
const maxParts = 100

// Truth records what was poisoned in a set, and how. It lives apart from the
// data: cleaning never sees it, evaluation joins results with it. Source, Seed
// and Parts fix the poisoned set; Apply makes it.
type Truth struct {
	Version int    `json:"version"`
	Seed    uint64 `json:"seed"`  // drew the samples
	Parts   []Part `json:"parts"` // none: nothing is poisoned
	// Source and Poisoned are the fingerprints of the training set before and
	// after. Plan leaves Poisoned to the writer of the file.
	Source   string   `json:"source"`
	Poisoned string   `json:"poisoned"`
	Shape    Shape    `json:"shape"`
	Classes  []string `json:"classes"`
	Samples  int      `json:"samples"` // of the poisoned set, changed or not
	// Variants are what every image was enlarged to after the poisoning, as
	// Enlarge says, with the seed that drew their jitter; none: the set has the
	// source's images.
	Variants    []dataset.Variant `json:"variants,omitempty"`
	VariantSeed uint64            `json:"variant_seed,omitempty"`
	// Changed lists the changed samples, ascending by Index.
	Changed []Changed `json:"changed"`

	hashed *dataset.Set // known to have the fingerprint Source; nil as read
}

// Changed is one sample that is not as it was.
type Changed struct {
	Index  int   `json:"index"`  // position in the poisoned set as it is read back
	Source int   `json:"source"` // position in the source, enlarged if the poisoned set is
	Part   int   `json:"part"`   // which of Parts, from 0
	Role   Role  `json:"role"`
	Label  int32 `json:"label"` // the label it had
	Given  int32 `json:"given"` // the label it carries
}

// Role says what a changed sample is for.
type Role string

// The roles.
const (
	// Poisoned samples plant the backdoor, or are wrong labels.
	Poisoned Role = "poisoned"
	// Cover samples carry the trigger and their true label, so that the
	// backdoor is harder to tell.
	Cover Role = "cover"
)

// Indices returns the positions of the samples of one role, ascending.
func (t *Truth) Indices(role Role) []int {
	var indices []int
	for _, c := range t.Changed {
		if c.Role == role {
			indices = append(indices, c.Index)
		}
	}
	return indices
}

// Remap moves every Index to newIndex(index), for a set that is read back in
// another order (dataset.Written.Index has the new positions). It refuses an
// index outside the set or given twice, and then leaves t as it was.
func (t *Truth) Remap(newIndex func(old int) int) error {
	changed := *t
	changed.Changed = slices.Clone(t.Changed)
	for k, c := range changed.Changed {
		changed.Changed[k].Index = newIndex(c.Index)
	}
	slices.SortFunc(changed.Changed, func(a, b Changed) int { return cmp.Compare(a.Index, b.Index) })
	if err := changed.validateChanged(); err != nil {
		return fmt.Errorf("remap truth: %w", err)
	}
	t.Changed = changed.Changed
	return nil
}

// Validate refuses a truth that contradicts itself or the schema.
func (t *Truth) Validate() error {
	if err := t.validateParts(); err != nil {
		return err
	}
	if err := t.validateChanged(); err != nil {
		return err
	}
	if err := t.validateVariants(); err != nil {
		return err
	}
	return t.validateCounts()
}

func (t *Truth) validateParts() error {
	if t.Version != TruthVersion {
		return fmt.Errorf("truth version %d: this program knows version %d", t.Version, TruthVersion)
	}
	if err := t.Shape.Validate(); err != nil {
		return err
	}
	if t.Samples < 1 {
		return fmt.Errorf("a set of %d samples", t.Samples)
	}
	if len(t.Parts) > maxParts {
		return fmt.Errorf("%d parts: at most %d", len(t.Parts), maxParts)
	}
	for k, p := range t.Parts {
		if err := p.Validate(len(t.Classes)); err != nil {
			return t.inPart(k, err)
		}
	}
	return nil
}

// inPart names the part, if there are several, that an error is about.
func (t *Truth) inPart(k int, err error) error {
	if len(t.Parts) == 1 {
		return err
	}
	return fmt.Errorf("part %d: %w", k+1, err)
}

// validateChanged checks ranges, order, roles and labels of the changed samples.
func (t *Truth) validateChanged() error {
	sources := make(map[int]bool, len(t.Changed))
	for k, c := range t.Changed {
		if err := t.validateSample(c); err != nil {
			return fmt.Errorf("changed sample %d: %w", c.Index, err)
		}
		switch {
		case k > 0 && c.Index == t.Changed[k-1].Index:
			return fmt.Errorf("changed sample %d: listed twice", c.Index)
		case k > 0 && c.Index < t.Changed[k-1].Index:
			return fmt.Errorf("changed sample %d: listed after %d, must ascend", c.Index, t.Changed[k-1].Index)
		case sources[c.Source]:
			return fmt.Errorf("changed sample %d: source %d is listed twice", c.Index, c.Source)
		}
		sources[c.Source] = true
	}
	return nil
}

func (t *Truth) validateSample(c Changed) error {
	switch {
	case c.Index < 0 || c.Index >= t.Samples:
		return fmt.Errorf("the set has %d samples", t.Samples)
	case c.Source < 0 || c.Source >= t.Samples:
		return fmt.Errorf("source %d: the set has %d samples", c.Source, t.Samples)
	case c.Label < 0 || int(c.Label) >= len(t.Classes):
		return fmt.Errorf("label %d of %d classes", c.Label, len(t.Classes))
	case c.Part < 0 || c.Part >= len(t.Parts):
		return fmt.Errorf("part %d of %d, from 0", c.Part, len(t.Parts))
	}
	p, fits := t.Parts[c.Part], false
	switch c.Role {
	case Poisoned:
		fits = p.gives(c.Label, c.Given, len(t.Classes))
	case Cover:
		fits = p.eligible(Cover, c.Label) && c.Given == c.Label
	default:
		return oneOf("role", string(c.Role), string(Poisoned), string(Cover))
	}
	if !fits {
		return fmt.Errorf("%s with label %d for %d contradicts %s with target %d", c.Role, c.Given, c.Label, p.Mode, p.Target)
	}
	return nil
}

// validateCounts checks that every part has the samples that its rates say.
func (t *Truth) validateCounts() error {
	for k, p := range t.Parts {
		for _, role := range roles() {
			want := countOf(p.rate(role), t.sourceSamples()) * max(1, len(t.Variants))
			if got := t.Count(k, role); got != want {
				return t.inPart(k, fmt.Errorf("%d %s samples, but rate %v of %d source samples makes %d", got, role, p.rate(role), t.sourceSamples(), want))
			}
		}
	}
	return nil
}

// Count returns how many samples of one role a part has.
func (t *Truth) Count(part int, role Role) int { return len(t.sources(part, role)) }

// sources lists where the samples of a part and role are in the source.
func (t *Truth) sources(part int, role Role) []int {
	var sources []int
	for _, c := range t.Changed {
		if c.Part == part && c.Role == role {
			sources = append(sources, c.Source)
		}
	}
	return sources
}

// Write validates t, which must have both fingerprints by now, and writes it to path as JSON.
func (t *Truth) Write(path string) error {
	if err := t.complete(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if data = append(data, '\n'); len(data) > maxTruthBytes {
		return fmt.Errorf("write %s: larger than the %d bytes a truth file may have", path, maxTruthBytes)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// ReadTruth reads and validates the truth file at path. What is wrong in the
// file is a *dataset.FormatError.
func ReadTruth(path string) (*Truth, error) {
	f, err := regular.Open(path)
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
	// The version first: another one has other members.
	var head struct{ Version int }
	if json.Unmarshal(data, &head) == nil && head.Version != TruthVersion {
		return nil, fmt.Errorf("truth version %d: this program knows version %d; poison the data again", head.Version, TruthVersion)
	}
	t := &Truth{}
	lists := struct {
		*Truth
		// These hide t's.
		Parts    json.RawMessage `json:"parts"`
		Classes  json.RawMessage `json:"classes"`
		Variants json.RawMessage `json:"variants"`
		Changed  json.RawMessage `json:"changed"`
	}{Truth: t}
	d := strict(data)
	if err := d.Decode(&lists); err != nil {
		return nil, fmt.Errorf("not a truth file: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more data after the truth")
	}
	err := cmp.Or(
		decodeList(lists.Parts, "parts", maxParts, &t.Parts),
		decodeList(lists.Classes, "classes", dataset.DefaultLimits().MaxClasses, &t.Classes),
		decodeList(lists.Variants, "variants", len(dataset.PaperVariants())+1, &t.Variants),
		decodeList(lists.Changed, "changed", maxChanged, &t.Changed),
	)
	if err == nil {
		err = t.complete()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// strict decodes JSON and refuses unknown members.
func strict(data []byte) *json.Decoder {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d
}

// decodeList decodes a list one by one: all at once, `0,0,0` in place of samples
// would take fifty times its size before it was refused. A missing list is empty.
func decodeList[T any](data json.RawMessage, name string, most int, into *[]T) error {
	if len(data) == 0 || string(data) == "null" {
		return nil
	}
	d := strict(data)
	if start, _ := d.Token(); start != json.Delim('[') {
		return fmt.Errorf("%s: not a list", name)
	}
	for d.More() {
		if len(*into) == most {
			return fmt.Errorf("%s: over %d", name, most)
		}
		var one T
		if err := d.Decode(&one); err != nil {
			return fmt.Errorf("not a truth file: %s %d: %w", name, len(*into), err)
		}
		*into = append(*into, one)
	}
	return nil
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
