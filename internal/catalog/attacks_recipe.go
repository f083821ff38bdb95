package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"cordon/attack"
	"cordon/dataset"
)

// maxPoisoning bounds the text of a poison recipe.
const maxPoisoning = 64 << 10

// Poisoning is a poison recipe as people write it: target classes by name,
// parameters that are not named keep the attack's defaults.
type Poisoning struct {
	Seed  uint64       `toml:"seed"` // draws the samples
	Parts []PoisonPart `toml:"part"`
	// Enlarge names the variants that the poisoned set is enlarged to
	// (dataset.Variants); none: it is not.
	Enlarge []string `toml:"enlarge"`
}

// PoisonPart is one part of a poison recipe, an attack.Part in the making.
type PoisonPart struct {
	Attack string         `toml:"attack"`
	Params map[string]any `toml:"params"` // of the trigger
	Cover  map[string]any `toml:"cover"`  // parameters that differ in cover samples
	Test   map[string]any `toml:"test"`   // parameters that differ in test images
	Mode   string         `toml:"mode"`   // empty: the attack's usual one
	Target string         `toml:"target"` // class name or number; empty where the mode has none
	// Rate must be given; 0 poisons nothing.
	Rate      *float64 `toml:"rate"`
	CoverRate float64  `toml:"cover_rate"`
	// Stratified has every class give in proportion.
	Stratified bool `toml:"stratified"`
}

// ReadPoisoning reads a poison recipe in TOML, at most 64 KiB. Unknown keys and
// wrong types are errors.
func ReadPoisoning(r io.Reader) (Poisoning, error) {
	var p Poisoning
	text, err := io.ReadAll(io.LimitReader(r, maxPoisoning+1))
	if err != nil {
		return p, err
	}
	if len(text) > maxPoisoning {
		return p, fmt.Errorf("larger than %d bytes", maxPoisoning)
	}
	err = toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&p)
	return p, tomlError(err)
}

// tomlError says in one line where the text is wrong.
func tomlError(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		line, _ := unknown.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %q", line, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, _ := at.Position()
		return fmt.Errorf("line %d: %s", line, strings.TrimPrefix(at.Error(), "toml: "))
	}
	return err
}

// Check refuses what is wrong whatever the classes are, before data is read.
func (p Poisoning) Check() error {
	const colour = 3 // what can be said of grey images is said when there are some
	if err := dataset.CheckVariants(dataset.Variants(p.Enlarge), colour); err != nil {
		return fmt.Errorf("enlarge: %w", err)
	}
	_, err := p.each(PoisonPart.general)
	return err
}

// For resolves the recipe for a set with these classes. What is wrong is an
// error that names the part.
func (p Poisoning) For(classes []string) ([]attack.Part, error) {
	return p.each(func(text PoisonPart) (attack.Part, error) {
		part, err := text.general()
		if err == nil && part.Mode.Targeted() {
			part.Target, err = findClass(classes, text.Target)
		}
		if err != nil {
			return part, err
		}
		return part, part.Validate(len(classes))
	})
}

func (p Poisoning) each(resolve func(PoisonPart) (attack.Part, error)) ([]attack.Part, error) {
	var parts []attack.Part
	for k, text := range p.Parts {
		part, err := resolve(text)
		switch {
		case err != nil && len(p.Parts) > 1:
			return nil, fmt.Errorf("part %d: %w", k+1, err)
		case err != nil:
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// general resolves all but the target, in whose place it puts label 0.
func (p PoisonPart) general() (attack.Part, error) {
	a, err := AttackByName(p.Attack)
	if err != nil {
		return attack.Part{}, err
	}
	if p.Rate == nil {
		return attack.Part{}, errors.New("rate is missing")
	}
	out := attack.Part{Mode: a.Mode(), Rate: *p.Rate, CoverRate: p.CoverRate, Stratified: p.Stratified}
	if p.Mode != "" {
		out.Mode = attack.LabelMode(p.Mode)
	}
	if !out.Mode.Targeted() {
		out.Target = -1
	}
	for _, role := range []struct {
		spec   *attack.Spec
		differ map[string]any
	}{{&out.Train, nil}, {&out.Cover, p.Cover}, {&out.Test, p.Test}} {
		if *role.spec, err = p.trigger(role.differ); err != nil {
			return attack.Part{}, err
		}
	}
	if err := out.Validate(math.MaxInt32); err != nil {
		return attack.Part{}, err
	}
	switch {
	case out.Mode.Targeted() && p.Target == "":
		return attack.Part{}, fmt.Errorf("%s needs a target class", out.Mode)
	case p.Stratified && out.Mode == attack.CleanLabel && p.CoverRate == 0:
		return attack.Part{}, fmt.Errorf("stratified: %s draws from one class", out.Mode)
	case len(p.Cover) > 0 && p.CoverRate == 0:
		return attack.Part{}, errors.New("parameters of cover samples, but the cover rate is 0")
	case !out.Mode.Targeted() && p.Target != "":
		return attack.Part{}, fmt.Errorf("target %q: %s has no target", p.Target, out.Mode)
	}
	return out, nil
}

// trigger is the part's attack with some parameters changed.
func (p PoisonPart) trigger(differ map[string]any) (attack.Spec, error) {
	params := map[string]string{}
	for _, from := range []map[string]any{p.Params, differ} {
		for name, value := range from {
			switch value.(type) {
			case string, int64, float64, bool:
				params[name] = fmt.Sprint(value)
			default:
				return attack.Spec{}, fmt.Errorf("parameter %s: must be a number or a text", name)
			}
		}
	}
	a, err := AttackFromSpec(attack.Spec{Name: p.Attack, Params: params})
	if err != nil {
		return attack.Spec{}, err
	}
	return attack.SpecOf(a), nil
}

// findClass returns the label of a class given by its name. A number also stands
// for the class whose name is that number ("3" for "003"), or, where there is none
// and not all names are numbers, for the label.
func findClass(classes []string, class string) (int, error) {
	if label := slices.Index(classes, class); label >= 0 {
		return label, nil
	}
	number, err := strconv.Atoi(class)
	named, allNumbers := -1, true
	for label, name := range classes {
		n, notNumber := strconv.Atoi(name)
		switch {
		case notNumber != nil:
			allNumbers = false
		case err == nil && n == number && named >= 0:
			return 0, fmt.Errorf("target %q may be class %q or %q", class, classes[named], name)
		case err == nil && n == number:
			named = label
		}
	}
	switch {
	case named >= 0:
		return named, nil
	case allNumbers:
		return 0, fmt.Errorf("target %q is not the name of a class; %q is one", class, classes[0])
	case err != nil || number < 0 || number >= len(classes):
		return 0, fmt.Errorf("target %q is neither a class name nor a number from 0 to %d", class, len(classes)-1)
	}
	return number, nil
}
