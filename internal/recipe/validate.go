package recipe

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// enums lists the values of every string setting.
var enums = map[string][]string{
	"model.arch":           {"resnet18", "resnet34", "resnet50", "preact_resnet18"},
	"model.stem":           {"imagenet", "small"},
	"model.precision":      {"auto", "fp32", "bf16"},
	"data.normalize":       {"dataset", "imagenet"},
	"schedule":             {"constant", "step", "cosine", "one-cycle"},
	"partial.frozen_unit":  {"layers", "tensors", "stages"},
	"partial.frozen_init":  {"random", "base"},
	"partial.frozen_norm":  {"batch", "running"},
	"isolate.ranking":      {"loss", "high-loss", "gap"},
	"isolate.model":        {"partial", "base"},
	"isolate.scope":        {"all", "class"},
	"isolate.epochs":       {"last", "mean", "clearest"},
	"isolate.score_norm":   {"recalibrated", "running"},
	"isolate.selection":    {"rate"},
	"repair.method":        {"joint", "alternating", "none"},
	"repair.objective":     {"ascent", "unlikelihood"},
	"repair.isolated_norm": {"shared", "batch", "running", "update"},
}

// interval is min ≤ x ≤ max, or x < max where open.
type interval struct {
	min, max float64
	open     bool
}

func (v interval) contains(x float64) bool { // false for NaN
	return x >= v.min && (x < v.max || x == v.max && !v.open)
}

func (v interval) String() string {
	if v.open {
		return fmt.Sprintf("at least %g and below %g", v.min, v.max)
	}
	return fmt.Sprintf("from %g to %g", v.min, v.max)
}

// ranges gives the values of every numeric setting. The seed is apart: a
// float64 cannot hold its limit.
var ranges = map[string]interval{
	"data.size":                     {min: 0, max: 1024}, // the readers' limit
	"data.sample":                   {min: 0, max: 1e9},
	"epochs":                        {min: 1, max: 1e5},
	"batch":                         {min: 2, max: 65536}, // batch norm needs two
	"learning_rate":                 {min: 0, max: 100},
	"momentum":                      {min: 0, max: 1, open: true},
	"weight_decay":                  {min: 0, max: 1},
	"step_epochs":                   {min: 0, max: 1e5},
	"step_factor":                   {min: 0, max: 1},
	"partial.frozen_fraction":       {min: 0, max: 1, open: true},
	"isolate.rate":                  {min: 0, max: 1, open: true},
	"repair.isolated_learning_rate": {min: 0, max: 100},
	"repair.isolated_batch":         {min: 2, max: 65536},
	"repair.bound":                  {min: 0, max: 100},
	"repair.retained_bound":         {min: 0, max: 100},
	"repair.finetune_epochs":        {min: 0, max: 1e5},
	"repair.finetune_learning_rate": {min: 0, max: 100},
}

// Validate returns an *Error for the first setting that is not allowed.
func (r Recipe) Validate() error {
	// TOML has no larger integers.
	if r.Seed > math.MaxInt64 {
		return &Error{Key: "seed", Reason: fmt.Sprintf("is %d, want an integer from 0 to 2^63-1", r.Seed)}
	}
	for _, f := range r.fields() {
		if err := f.validate(); err != nil {
			return err
		}
	}
	for _, check := range []error{
		r.Base.validate("base"), r.Partial.validate("partial"), r.Repair.validate("repair"),
		r.validateEpochs(), r.validateJoint(),
	} {
		if check != nil {
			return check
		}
	}
	return nil
}

// rule looks a setting up: by its key or, for the settings that all
// trainings share, by its name without the section.
func rule[T any](rules map[string]T, key string) (T, bool) {
	if v, ok := rules[key]; ok {
		return v, true
	}
	v, ok := rules[key[strings.IndexByte(key, '.')+1:]]
	return v, ok
}

func (f field) validate() error {
	switch f.value.Kind() {
	case reflect.String:
		allowed, _ := rule(enums, f.key)
		if !slices.Contains(allowed, f.value.String()) {
			return &Error{Key: f.key, Reason: fmt.Sprintf("is %.60q, want %s", f.value.String(), strings.Join(allowed, ", "))}
		}
	case reflect.Int:
		return f.validateRange(float64(f.value.Int()))
	case reflect.Float64:
		return f.validateRange(f.value.Float())
	}
	return nil
}

func (f field) validateRange(x float64) error {
	if allowed, _ := rule(ranges, f.key); !allowed.contains(x) {
		return &Error{Key: f.key, Reason: fmt.Sprintf("is %s, want %s", f.text(), allowed)}
	}
	return nil
}

// validate checks what two settings of one training say together.
func (t Train) validate(section string) error {
	switch {
	case t.Schedule == "step" && t.StepEpochs == 0:
		return &Error{Key: section + ".step_epochs", Reason: `is 0, want at least 1 with schedule "step"`}
	case t.Nesterov && t.Momentum == 0:
		return &Error{Key: section + ".nesterov", Reason: "needs momentum above 0"}
	}
	return nil
}

// validateEpochs refuses a choice among epochs whose losses nobody records: it
// would silently be the last epoch's.
func (r Recipe) validateEpochs() error {
	base := r.Isolate.Model == "base" || r.Isolate.Ranking == "gap"
	partial := r.Isolate.Model == "partial" || r.Isolate.Ranking == "gap"
	needs := ""
	switch {
	case r.Isolate.Epochs == "last":
		return nil
	case base && !r.Base.ScoreEpochs:
		needs = "base"
	case partial && !r.Partial.ScoreEpochs:
		needs = "partial"
	default:
		return nil
	}
	return &Error{Key: "isolate.epochs", Reason: fmt.Sprintf("is %q, which needs %s.score_epochs = true", r.Isolate.Epochs, needs)}
}

// validateJoint: the joint step weighs D_s by the ratio of the two rates.
func (r Recipe) validateJoint() error {
	if r.Repair.Method == "joint" && r.Repair.LearningRate == 0 {
		return &Error{Key: "repair.learning_rate", Reason: `is 0, want above 0 with method "joint"`}
	}
	return nil
}
