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
	switch {
	case o.Train == nil || o.Train.Len() == 0:
		return errors.New("no training images")
	case o.Dir == "":
		return errors.New("no folder for the run")
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
// bits as that of an uninterrupted run.
func Cleanse(ctx context.Context, opt Options) (*report.Report, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	engine, err := torch.Open(torch.Options{Library: opt.Library, Threads: opt.Threads})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	device, err := engine.Device(opt.Device)
	if err != nil {
		return nil, err
	}
	if opt.Recipe.Model.Precision == "auto" {
		opt.Recipe.Model.Precision = AutoPrecision(device.String())
	}
	c := &cleansing{Options: opt, info: engine.Info(), device: device, started: time.Now()}
	c.set, c.positions = train.Sample(opt.Train, opt.Recipe)
	if c.manifest, err = c.newManifest(ctx); err != nil {
		return nil, err
	}
	if c.dir, err = rundir.Open(opt.Dir, c.manifest); err != nil {
		return nil, err
	}
	defer c.dir.Close()
	log, err := os.OpenFile(c.dir.Path(rundir.EventsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	env, err := c.env(engine, event.NewJSON(log))
	if err != nil {
		return nil, err
	}
	if err := c.writeRecipe(); err != nil {
		return nil, err
	}
	var out *defense.Outcome
	err = engine.Do(ctx, func() error {
		out, err = defense.PartialTraining(ctx, env)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.write(out)
}

// AutoPrecision is what precision "auto" means on a device (cpu, cuda, cuda:N): the
// one that trains fastest, bf16 on GPUs and on processors that multiply it in
// hardware, else fp32.
func AutoPrecision(device string) string {
	_, features := machine.CPU()
	onGPU := device != "" && device != torch.CPU.String()
	if onGPU || slices.Contains(features, "avx512_bf16") || slices.Contains(features, "amx_bf16") {
		return "bf16"
	}
	return "fp32"
}

// cleansing is one call of Cleanse.
type cleansing struct {
	Options
	set       *dataset.Set // D
	positions []int        // of D's samples in Train
	dir       *rundir.Dir
	manifest  rundir.Manifest
	info      torch.Info
	device    torch.Device
	started   time.Time
}

// newManifest reads both sets whole, for their fingerprints.
func (c *cleansing) newManifest(ctx context.Context) (m rundir.Manifest, err error) {
	cpu, _ := machine.CPU()
	m = rundir.Manifest{
		Tool: Version, Method: "partial-training",
		RecipeHash: c.Recipe.Hash(), Seed: c.Recipe.Seed,
		Data:  c.Train.Name,
		Torch: c.info.Torch, Engine: c.info.Build,
		Device: c.device.String(), CPU: cpu, Threads: c.info.Threads,
	}
	if m.Fingerprint, err = c.Train.Fingerprint(ctx); err != nil || c.Test == nil {
		return m, err
	}
	m.TestFingerprint, err = c.Test.Fingerprint(ctx)
	return m, err
}

func (c *cleansing) env(engine *torch.Engine, log Sink) (defense.Env, error) {
	input, err := train.NewInput(c.set, c.Recipe.Data.Normalize)
	if err != nil {
		return defense.Env{}, err
	}
	env := defense.Env{
		Engine: engine, Device: c.device, Recipe: c.Recipe, Train: input, Dir: c.dir,
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
