package defense

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cordon/dataset"
	"cordon/internal/event"
	"cordon/internal/recipe"
	"cordon/internal/repair"
	"cordon/internal/rundir"
	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
	"cordon/internal/train"
)

// tiny is a run of a second or two: 40 grey 8×8 images of 2 classes.
func tiny() recipe.Recipe {
	r := recipe.Default()
	r.Model.Arch, r.Model.Stem = "resnet18", "small"
	for _, t := range []*recipe.Train{&r.Base, &r.Partial.Train, &r.Repair.Train} {
		t.Epochs, t.Batch, t.ScoreEpochs = 2, 16, false
	}
	r.Repair.IsolatedBatch = 2
	return r
}

func images(n int) *dataset.Set {
	s := &dataset.Set{Name: "tiny", Format: "idx", Classes: []string{"0", "1"}, Height: 8, Width: 8, Channels: 1}
	for i := range n {
		s.Labels = append(s.Labels, int32(i%2))
		for p := range 64 {
			s.Pixels = append(s.Pixels, byte(90*(i%2)+(i*37+p*p*13)%120))
		}
	}
	return s
}

// newPT prepares a run in a fresh folder.
func newPT(t *testing.T, e *torch.Engine, r recipe.Recipe) *pt {
	t.Helper()
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	dir, err := rundir.Open(filepath.Join(t.TempDir(), "run"), rundir.Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	set, _ := train.Sample(images(40), r)
	input, err := train.NewInput(set, r.Data.Normalize)
	if err != nil {
		t.Fatal(err)
	}
	test := train.Input{Set: images(10), Mean: input.Mean, Std: input.Std}
	return &pt{ctx: context.Background(), Env: Env{
		Engine: e, Device: torch.CPU, Recipe: r, Train: input, Test: &test,
		Dir: dir, Events: event.Discard, CheckpointEvery: time.Hour,
	}}
}

// digest sums up files of a run folder; a missing one counts as such.
func digest(t *testing.T, p *pt, names ...string) string {
	t.Helper()
	h := sha256.New()
	for _, name := range names {
		data, err := os.ReadFile(p.Dir.Path(name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		fmt.Fprintln(h, name, len(data))
		h.Write(data)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// What a setting of each section must change.
var (
	afterBase    = []string{"work/scores-base-01.f32", "work/scores-base-02.f32", "work/scores-base-03.f32"}
	afterPartial = []string{"work/scores-partial-01.f32", "work/scores-partial-02.f32", "work/scores-partial-03.f32"}
)

// step runs a part of the method and says which files show its result.
type step struct {
	run   func(p *pt) error
	files []string
}

// steps gives, for each section of a recipe, the stages that it governs, run on
// top of a finished base model.
var steps = map[string]step{
	"base":    {(*pt).base, afterBase},
	"partial": {(*pt).partial, afterPartial},
	"isolate": {(*pt).partial, afterPartial},
	"repair":  {(*pt).repair, []string{rundir.CleanModel}},
}

// TestEverySettingHasAnEffect changes one setting at a time and requires another
// result: no setting may be read and then ignored. Most settings of [isolate] are
// covered in package isolate, where they act.
func TestEverySettingHasAnEffect(t *testing.T) {
	e := torchtest.Open(t)
	changes := []string{
		"seed=1",
		"model.arch=resnet34", "model.stem=imagenet", "model.precision=bf16",
		"data.sample=30", "data.normalize=imagenet",
	}
	for _, section := range []string{"base", "partial", "repair"} {
		for _, c := range []string{
			"epochs=3", "batch=8", "learning_rate=0.02", "momentum=0.5", "weight_decay=0.01", "nesterov=true",
			"schedule=cosine", "step_epochs=1", "step_factor=0.5",
		} {
			changes = append(changes, section+"."+c)
		}
	}
	changes = append(changes,
		"base.score_epochs=true", "partial.score_epochs=true",
		"partial.frozen_fraction=0.5", "partial.frozen_unit=stages", "partial.frozen_init=base", "partial.frozen_norm=running",
		"isolate.score_norm=running",
		"repair.method=alternating", "repair.isolated_learning_rate=0.01", "repair.isolated_batch=4",
		"repair.objective=ascent", "repair.bound=0.1", "repair.retained_bound=0.1", "repair.isolated_norm=batch",
		"repair.finetune_epochs=2", "repair.finetune_learning_rate=0.01",
	)
	requireAllKeys(t, changes, "data.size", "repair.score_epochs", "isolate.")

	for _, change := range changes {
		t.Run(change, func(t *testing.T) {
			before, after := settingPair(t, change)
			if outcome(t, e, before, change) == outcome(t, e, after, change) {
				t.Errorf("%s changed nothing", change)
			}
		})
	}
}

// repair.score_epochs changes no model, only what is known of its epochs.
func TestRepairScoresEpochs(t *testing.T) {
	e := torchtest.Open(t)
	for _, scored := range []bool{false, true} {
		r := tiny()
		r.Repair.ScoreEpochs = scored
		p := newPT(t, e, r)
		p.out.Isolated, p.out.Retained = train.All(8), train.All(40)[8:]
		err := e.Do(context.Background(), func() error { return errors.Join(saveBase(p), p.repair()) })
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(p.out.Stages[0].Epochs), repair.Epochs(r.Repair); got != want {
			t.Fatalf("%d epochs, want %d", got, want)
		}
		for i, figures := range p.out.Stages[0].Epochs {
			if _, known := figures["test_accuracy"]; known != scored {
				t.Errorf("score_epochs %v: epoch %d has %v", scored, i+1, figures)
			}
		}
	}
}

// settingPair returns the tiny recipe and the same with one change. The step
// schedule's settings only act under that schedule.
func settingPair(t *testing.T, change string) (before, after recipe.Recipe) {
	t.Helper()
	before = tiny()
	section, key, _ := strings.Cut(change, ".")
	if strings.HasPrefix(key, "step_") {
		for _, s := range []string{".schedule=step", ".step_epochs=2", ".step_factor=0.1"} {
			if strings.HasPrefix(key, "step_factor") && strings.HasPrefix(s, ".step_epochs") {
				s = ".step_epochs=1"
			}
			if err := before.Set(section + s); err != nil {
				t.Fatal(err)
			}
		}
	}
	after = before
	if err := after.Set(change); err != nil {
		t.Fatal(err)
	}
	return before, after
}

// outcomes remembers what was run before: most changes share the same start.
var outcomes = map[string]string{}

func outcome(t *testing.T, e *torch.Engine, r recipe.Recipe, change string) string {
	t.Helper()
	section, _, dotted := strings.Cut(change, ".")
	s, ok := steps[section]
	if !dotted || !ok {
		s = steps["base"]
	}
	key := section + r.Hash()
	if found, ok := outcomes[key]; ok {
		return found
	}
	p := newPT(t, e, r)
	err := e.Do(context.Background(), func() error {
		if section == "repair" || r.Partial.FrozenInit == "base" {
			if err := saveBase(p); err != nil {
				return err
			}
		}
		p.out.Isolated, p.out.Retained = train.All(8), train.All(40)[8:]
		if err := s.run(p); err != nil && !strings.Contains(err.Error(), "losses") {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	outcomes[key] = digest(t, p, s.files...)
	return outcomes[key]
}

// saveBase stands in for a trained M_s.
func saveBase(p *pt) error {
	m, err := p.fresh(baseStage.name)
	if err != nil {
		return err
	}
	defer m.Close()
	return p.store(m, baseStage)
}

// requireAllKeys checks that every key of a recipe is changed, but for those
// that are covered elsewhere.
func requireAllKeys(t *testing.T, changes []string, elsewhere ...string) {
	t.Helper()
	covered := append([]string{}, elsewhere...)
	for _, c := range changes {
		key, _, _ := strings.Cut(c, "=")
		covered = append(covered, key)
	}
	section := ""
	for _, line := range strings.Split(string(recipe.Default().Encode()), "\n") {
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]") + "."
			continue
		}
		name, _, ok := strings.Cut(line, " = ")
		if !ok {
			continue
		}
		key := section + name
		found := false
		for _, c := range covered {
			found = found || c == key || strings.HasSuffix(c, ".") && strings.HasPrefix(key, c)
		}
		if !found {
			t.Errorf("no change of %s is tested", key)
		}
	}
}

// TestSameSeedSameBits runs the whole method twice.
func TestSameSeedSameBits(t *testing.T) {
	e := torchtest.Open(t)
	results := make([]string, 2)
	for i := range results {
		p := newPT(t, e, tiny())
		err := e.Do(context.Background(), func() error {
			_, err := PartialTraining(p.ctx, p.Env)
			if n := e.Live(); n != 0 {
				t.Errorf("%d tensors left alive", n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		results[i] = digest(t, p, rundir.BaseModel, rundir.PartialModel, rundir.CleanModel, rundir.BaseNorms, rundir.CleanNorms)
	}
	if results[0] != results[1] {
		t.Error("two runs of one seed differ")
	}
}

// TestNothingIsolated: an isolation rate of 0 leaves D_s empty, and the method
// still ends.
func TestNothingIsolated(t *testing.T) {
	e := torchtest.Open(t)
	r := tiny()
	r.Isolate.Rate = 0
	p := newPT(t, e, r)
	err := e.Do(context.Background(), func() error {
		out, err := PartialTraining(p.ctx, p.Env)
		if err == nil && (len(out.Isolated) != 0 || len(out.Retained) != 40) {
			t.Errorf("%d isolated, %d retained", len(out.Isolated), len(out.Retained))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestInterruptedRunEndsTheSame cancels a run at several moments, runs it again,
// and compares all models with those of a run that was left alone.
func TestInterruptedRunEndsTheSame(t *testing.T) {
	e := torchtest.Open(t)
	models := []string{rundir.BaseModel, rundir.PartialModel, rundir.CleanModel, rundir.BaseNorms, rundir.CleanNorms}
	whole := newPT(t, e, tiny())
	if err := e.Do(context.Background(), func() error { _, err := PartialTraining(whole.ctx, whole.Env); return err }); err != nil {
		t.Fatal(err)
	}
	want := digest(t, whole, models...)

	p := newPT(t, e, tiny())
	p.CheckpointEvery = 0
	stopped := 0
	for events := 1; ; events += 4 {
		ctx, cancel := context.WithCancel(context.Background())
		env := p.Env
		env.Events = &cancelAfter{events, cancel}
		err := e.Do(context.Background(), func() error { _, err := PartialTraining(ctx, env); return err })
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		stopped++
	}
	if stopped == 0 {
		t.Fatal("the run was never stopped")
	}
	if digest(t, p, models...) != want {
		t.Errorf("a run that was stopped %d times differs", stopped)
	}
}

// cancelAfter cancels a context with the n-th event.
type cancelAfter struct {
	left   int
	cancel func()
}

func (c *cancelAfter) Send(event.Event) {
	if c.left--; c.left == 0 {
		c.cancel()
	}
}

func TestWeightsOfFrozenLayersStay(t *testing.T) {
	e := torchtest.Open(t)
	p := newPT(t, e, tiny())
	err := e.Do(context.Background(), func() error {
		if err := p.partial(); err != nil {
			return err
		}
		fresh, err := p.fresh(partialStage.name)
		if err != nil {
			return err
		}
		defer fresh.Close()
		trained, err := p.load(rundir.PartialModel)
		if err != nil {
			return err
		}
		defer trained.Close()
		for _, k := range []struct {
			param int
			same  bool
		}{{0, true}, {len(fresh.Params()) - 2, false}} {
			a, err := fresh.Read(fresh.Params()[k.param])
			if err != nil {
				return err
			}
			b, err := trained.Read(trained.Params()[k.param])
			if err != nil {
				return err
			}
			if same := bytes.Equal(raw(a), raw(b)); same != k.same {
				t.Errorf("%s: unchanged is %v, want %v", fresh.Params()[k.param].Name, same, k.same)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func raw(v []float32) []byte { return fmt.Appendf(nil, "%x", v) }
