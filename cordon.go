package cordon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"cordon/dataset"
	"cordon/internal/defense"
	"cordon/internal/event"
	"cordon/internal/machine"
	"cordon/internal/recipe"
	"cordon/internal/rundir"
	"cordon/internal/torch"
	"cordon/internal/train"
	"cordon/report"
)

// Version is the version of cordon. Release builds set it when linking.
var Version = "dev"

// Recipe holds every setting of a run. DefaultRecipe gives the documented
// defaults, ParseRecipe reads TOML.
type Recipe = recipe.Recipe

// DefaultRecipe returns the recipe that is used where nothing else is said.
func DefaultRecipe() Recipe { return recipe.Default() }

// ParseRecipe reads a recipe from TOML. Settings that are not named keep their
// defaults; unknown ones are errors.
func ParseRecipe(text []byte) (Recipe, error) { return recipe.Parse(text) }

// Event is something that happened in a long run, and Sink takes events.
type (
	Event = event.Event
	Sink  = event.Sink
)

// ErrNoEngine says that the engine library was not found or does not fit.
var ErrNoEngine = torch.ErrNoEngine

// DefaultCheckpointEvery is the time between two checkpoints: an interrupted
// run loses less than a minute.
const DefaultCheckpointEvery = 30 * time.Second

// Options says what Cleanse works on.
type Options struct {
	// Train is the training set of unknown origin, Test a clean test set on
	// which accuracy is measured; nil where there is none.
	Train, Test *dataset.Set
	Recipe      Recipe
	// Dir is the run folder. A folder that holds an interrupted run of the same
	// data, recipe and machine setting is continued.
	Dir string
	// Library is the engine library; empty looks in the usual places.
	Library string
	// Device is cpu, cuda or cuda:N; empty is cpu.
	Device string
	// Threads is the number of threads; 0 is one per processor.
	Threads int
	// Events receives progress; nil drops it.
	Events Sink
	// CheckpointEvery is the time between two checkpoints; negative saves
	// after every step, 0 is DefaultCheckpointEvery.
	CheckpointEvery time.Duration
}

// Validate reports what is missing or contradictory.
func (o Options) Validate() error {
	if o.Dir == "" {
		return errors.New("no folder for the run")
	}
	return o.validateWork()
}

// validateWork leaves the run folder aside.
func (o Options) validateWork() error {
	switch {
	case o.Train == nil || o.Train.Len() == 0:
		return errors.New("no training images")
	case o.Test != nil && (o.Test.Height != o.Train.Height || o.Test.Width != o.Train.Width || o.Test.Channels != o.Train.Channels):
		return fmt.Errorf("test images are %d×%d×%d, training images %d×%d×%d",
			o.Test.Height, o.Test.Width, o.Test.Channels, o.Train.Height, o.Train.Width, o.Train.Channels)
	case o.Test != nil && o.Test.Len() == 0:
		return errors.New("no test images; leave the test set out instead")
	case o.Test != nil && !slices.Equal(o.Test.Classes, o.Train.Classes):
		return errors.New("the test set has other classes than the training set")
	}
	return o.Recipe.Validate()
}

// Cleanse runs the whole method of the paper on a training set of unknown
// origin: M_s, M′, isolation, unlearning. It writes the models, the lists of
// isolated and retained samples, the sample losses and the report to the run
// folder, and returns the report. It needs no clean data and no knowledge of
// the attack.
//
// When ctx is cancelled it saves its state within about one training step and
// returns ctx's error; calling it again continues, and the result has the same
// bits as that of an uninterrupted run. For a finished run it returns the
// report that is there.
func Cleanse(ctx context.Context, opt Options) (*report.Report, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	c, err := opt.open()
	if err != nil {
		return nil, err
	}
	defer c.engine.Close()
	if c.manifest, err = c.newManifest(ctx); err != nil {
		return nil, err
	}
	if c.dir, err = rundir.Open(opt.Dir, c.manifest); err != nil {
		return nil, err
	}
	defer c.dir.Close()
	if c.dir.Has(rundir.ReportJSON) { // written last; eval may have added to it
		return report.Read(c.dir.Path(rundir.ReportJSON))
	}
	return c.logged(ctx)
}

// logged runs the defense and keeps its events in the run folder.
func (c *cleansing) logged(ctx context.Context) (*report.Report, error) {
	file, err := os.OpenFile(c.dir.Path(rundir.EventsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	log := event.NewJSON(file)
	r, err := c.run(ctx, log)
	return r, errors.Join(err, log.Err(), file.Close())
}

func (c *cleansing) run(ctx context.Context, log Sink) (*report.Report, error) {
	env, err := c.env(log)
	if err != nil {
		return nil, err
	}
	if err := c.writeRecipe(); err != nil {
		return nil, err
	}
	var out *defense.Outcome
	err = c.engine.Do(ctx, func() error {
		if err := c.announce(ctx, env); err != nil {
			return err
		}
		out, err = defense.PartialTraining(ctx, env)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.write(out)
}

// Estimate measures a few training steps on the data and returns how long Cleanse
// would take in a new run folder; opt.Dir is not needed. It is good to about a
// third.
func Estimate(ctx context.Context, opt Options) (time.Duration, error) {
	if err := opt.validateWork(); err != nil {
		return 0, err
	}
	c, err := opt.open()
	if err != nil {
		return 0, err
	}
	defer c.engine.Close()
	env, err := c.env(event.Discard)
	if err != nil {
		return 0, err
	}
	var left time.Duration
	err = c.engine.Do(ctx, func() error {
		left, err = defense.Estimate(ctx, env)
		return err
	})
	return left, err
}

// announce says how long the rest of the run takes.
func (c *cleansing) announce(ctx context.Context, env defense.Env) error {
	left, err := defense.Estimate(ctx, env)
	if err != nil || left == 0 {
		return err
	}
	env.Events.Send(event.Event{Type: event.Note, Time: time.Now(),
		Message: fmt.Sprintf("about %s to go, measured with a few steps", event.Duration(left.Round(time.Second)))})
	return nil
}

// AutoPrecision is what precision "auto" means on a device (cpu, cuda, cuda:N) with the
// engine's vectors (basic, avx2, avx512, avx512_bf16, amx): the one that trains
// fastest, bf16 on GPUs and on processors that multiply it faster than fp32, else fp32.
func AutoPrecision(device, vectors string) string {
	onGPU := device != "" && device != torch.CPU.String()
	if onGPU || machine.FastBF16(machine.CPU().Vendor, vectors) {
		return "bf16"
	}
	return "fp32"
}

// cleansing is one call of Cleanse or Estimate.
type cleansing struct {
	Options
	engine    *torch.Engine
	set       *dataset.Set // D
	positions []int        // of D's samples in Train
	dir       *rundir.Dir
	manifest  rundir.Manifest
	device    torch.Device
	auto      bool // the precision was for us to choose
	started   time.Time
}

// open opens the engine and settles what depends on the device and the data.
func (o Options) open() (*cleansing, error) {
	engine, err := torch.Open(torch.Options{Library: o.Library, Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	device, err := engine.Device(o.Device)
	if err != nil {
		engine.Close()
		return nil, err
	}
	auto := o.Recipe.Model.Precision == "auto"
	if auto {
		o.Recipe.Model.Precision = AutoPrecision(device.String(), engine.Info().Vectors)
	}
	c := &cleansing{Options: o, engine: engine, device: device, auto: auto, started: time.Now()}
	c.set, c.positions = train.Sample(o.Train, o.Recipe)
	return c, nil
}

// newManifest reads both sets whole, for their fingerprints.
func (c *cleansing) newManifest(ctx context.Context) (m rundir.Manifest, err error) {
	cpu := machine.CPU().Model
	m = rundir.Manifest{
		Tool: Version, Method: "partial-training",
		RecipeHash: c.Recipe.Hash(), Seed: c.Recipe.Seed,
		Data:  c.Train.Name,
		Torch: c.engine.Info().Torch, Engine: c.engine.Info().Build,
		Device: c.device.String(), CPU: cpu, Threads: c.engine.Info().Threads,
	}
	if m.Fingerprint, err = c.Train.Fingerprint(ctx); err != nil || c.Test == nil {
		return m, err
	}
	m.TestFingerprint, err = c.Test.Fingerprint(ctx)
	return m, err
}

func (c *cleansing) env(log Sink) (defense.Env, error) {
	input, err := train.NewInput(c.set, c.Recipe.Data.Normalize)
	if err != nil {
		return defense.Env{}, err
	}
	env := defense.Env{
		Engine: c.engine, Device: c.device, Recipe: c.Recipe, Train: input, Dir: c.dir,
		Events: log, CheckpointEvery: max(c.CheckpointEvery, 0),
	}
	if c.CheckpointEvery == 0 {
		env.CheckpointEvery = DefaultCheckpointEvery
	}
	if c.Events != nil {
		env.Events = event.Tee(log, c.Events)
	}
	if c.Test != nil {
		env.Test = &train.Input{Set: c.Test, Mean: input.Mean, Std: input.Std}
	}
	return env, nil
}
