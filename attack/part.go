package attack

import (
	"errors"
	"fmt"
	"math"
)

// Part is one poisoning of a set: which pixels change, which label the samples
// get, and how many they are. Several targets or triggers are several parts;
// their samples are disjoint.
type Part struct {
	Train Spec `json:"train"` // the trigger of the poisoned training samples
	Cover Spec `json:"cover"` // the trigger of the cover samples
	Test  Spec `json:"test"`  // the trigger of the test images
	// Mode is the label rule.
	Mode   LabelMode `json:"mode"`
	Target int       `json:"target"` // the target label; -1 where Mode has none
	// Rate is the poison rate and CoverRate that of cover samples, which carry
	// their trigger with their true label. Both are fractions of ALL training
	// samples: round(rate·N) samples.
	Rate      float64 `json:"rate"`
	CoverRate float64 `json:"cover_rate"`
	// Stratified has every class give samples in proportion to those it has left,
	// instead of by chance.
	Stratified bool `json:"stratified,omitempty"`
}

// PartOf returns a part with the same trigger everywhere, in the attack's usual
// mode, without cover samples.
func PartOf(a Attack, target int, rate float64) Part {
	spec := SpecOf(a)
	return Part{Train: spec, Cover: spec, Test: spec, Mode: a.Mode(), Target: target, Rate: rate}
}

// Validate refuses rates outside 0…1, a target that the mode or the set of that
// many classes has not, and combinations that change nothing or have no meaning.
func (p Part) Validate(classes int) error {
	if err := p.Mode.Validate(); err != nil {
		return err
	}
	switch {
	case !(p.Rate >= 0 && p.Rate <= 1): // NaN too
		return fmt.Errorf("poison rate %v: must be 0 to 1", p.Rate)
	case !(p.CoverRate >= 0 && p.CoverRate <= 1):
		return fmt.Errorf("cover rate %v: must be 0 to 1", p.CoverRate)
	case p.Mode.Targeted() && p.Target < 0:
		return fmt.Errorf("target label %d: must not be negative", p.Target)
	case p.Mode.Targeted() && p.Target >= classes:
		return fmt.Errorf("target label %d: the set has %d classes, labels 0 to %d", p.Target, classes, classes-1)
	case !p.Mode.Targeted() && p.Target != -1:
		return fmt.Errorf("target label %d: %s has no target", p.Target, p.Mode)
	case !p.Mode.Targeted() && classes < 2:
		return fmt.Errorf("%s needs two classes, the set has %d", p.Mode, classes)
	}
	return p.validateTriggers()
}

func (p Part) validateTriggers() error {
	without := p.Train.Name == NoTrigger
	switch {
	case p.Train.Name == "" || p.Cover.Name == "" || p.Test.Name == "":
		return errors.New("attack has no name")
	case without != (p.Test.Name == NoTrigger):
		return errors.New("a trigger in training alone or in the test alone is no backdoor")
	case p.Mode == LabelNoise && !without:
		return fmt.Errorf("%s has no trigger: the attack must be %s, not %s", LabelNoise, NoTrigger, p.Train.Name)
	case p.Mode == CleanLabel && without:
		return fmt.Errorf("%s without a trigger changes nothing", CleanLabel)
	case p.CoverRate > 0 && p.Cover.Name == NoTrigger:
		return errors.New("cover samples without a trigger change nothing")
	}
	return nil
}

// Goal returns the label that the attack wants for a triggered image of a true
// label, in a set of that many classes. Equal to label, it wants nothing: such
// images count neither for ASR nor for RA.
func (p Part) Goal(label int32, classes int) int32 {
	switch {
	case !p.HasGoal():
		return label
	case p.Mode == AllToAll:
		return next(label, classes)
	}
	return int32(p.Target)
}

// HasGoal tells whether ASR can be measured: label noise and parts without a
// trigger have none.
func (p Part) HasGoal() bool { return p.Test.Name != NoTrigger && p.Mode != LabelNoise }

// String says in a few words what the part does.
func (p Part) String() string {
	text := fmt.Sprintf("%s, %s", p.Train.Name, p.Mode)
	if p.Train.Name == NoTrigger {
		text = string(p.Mode)
	}
	if p.CoverRate > 0 {
		text += " with covers"
	}
	return text
}

// Describe says what the part does, with the name of its target class.
func (p Part) Describe(classes []string) string { return p.String() + p.aim(classes) }

// aim names the target class, if there is one.
func (p Part) aim(classes []string) string {
	if !p.Mode.Targeted() {
		return ""
	}
	return fmt.Sprintf(", target %q", classes[p.Target])
}

// roles lists the roles that changed samples have.
func roles() [2]Role { return [...]Role{Poisoned, Cover} }

// spec is the trigger of the training samples of a role.
func (p Part) spec(role Role) Spec {
	if role == Cover {
		return p.Cover
	}
	return p.Train
}

// rate is the share of all training samples that have a role.
func (p Part) rate(role Role) float64 {
	if role == Cover {
		return p.CoverRate
	}
	return p.Rate
}

// eligible tells whether a sample of that label can have a role. A cover's
// trigger must contradict the attack with the true label.
func (p Part) eligible(role Role, label int32) bool {
	switch {
	case !p.Mode.Targeted():
		return true
	case role == Poisoned && p.Mode == CleanLabel:
		return int(label) == p.Target
	}
	return int(label) != p.Target
}

// gives tells whether a poisoned sample may change from one label to another.
func (p Part) gives(before, after int32, classes int) bool {
	switch p.Mode {
	case AllToAll:
		return after == next(before, classes)
	case LabelNoise:
		return after != before && after >= 0 && int(after) < classes
	}
	return p.eligible(Poisoned, before) && int(after) == p.Target
}

// next is the label rule all-to-all.
func next(label int32, classes int) int32 { return (label + 1) % int32(classes) }

// countOf is the rate convention of the whole program.
func countOf(rate float64, samples int) int {
	return int(math.Round(rate * float64(samples)))
}
