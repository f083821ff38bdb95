// Package recipe holds every setting of a run in one record, read from TOML.
//
// Unknown keys are errors, every field has a default, and the resolved recipe
// and its hash go into the report.
package recipe

// Recipe is the complete setting of one cleaning run.
type Recipe struct {
	Seed    uint64  `toml:"seed"`    // all randomness derives from it
	Model   Model   `toml:"model"`   // one architecture for M_s, M′ and M_c
	Data    Data    `toml:"data"`    // what is taken from the input
	Base    Train   `toml:"base"`    // training of M_s (eq. 2)
	Partial Partial `toml:"partial"` // training of M′ (§ 4, second step)
	Isolate Isolate `toml:"isolate"` // D_s and D_c (§ 4, third step)
	Repair  Repair  `toml:"repair"`  // M_c (eq. 3)
}

// Model names the network.
type Model struct {
	Arch string `toml:"arch"` // resnet18, resnet34, resnet50, preact_resnet18
	Stem string `toml:"stem"` // imagenet (7×7/2 and max pool) or small (3×3)
	// Precision of convolutions and linear layers: fp32, bf16, or auto, which
	// becomes bf16 where the machine multiplies it faster. Weights, batch norm
	// statistics and the optimiser stay in fp32.
	Precision string `toml:"precision"`
}

// Data says what is taken from the input.
type Data struct {
	// Size resizes the images of a folder to Size × Size; 0 keeps the size of
	// formats that have one (IDX, CIFAR) and is an error for a folder.
	Size int `toml:"size"`
	// Sample takes this many training images, drawn evenly over the classes;
	// 0 takes all.
	Sample int `toml:"sample"`
	// Normalize is "dataset" (mean and deviation of the training images) or
	// "imagenet" (torchvision's constants, for its weights).
	Normalize string `toml:"normalize"`
}

// Train is one training by SGD.
type Train struct {
	Epochs       int     `toml:"epochs"`
	Batch        int     `toml:"batch"`
	LearningRate float64 `toml:"learning_rate"` // the highest of the schedule
	Momentum     float64 `toml:"momentum"`
	WeightDecay  float64 `toml:"weight_decay"`
	Nesterov     bool    `toml:"nesterov"`
	Schedule     string  `toml:"schedule"` // constant, step, cosine, one-cycle
	// StepEpochs and StepFactor: schedule "step" multiplies the rate by
	// StepFactor after every StepEpochs epochs.
	StepEpochs int     `toml:"step_epochs"`
	StepFactor float64 `toml:"step_factor"`
	// ScoreEpochs measures after each epoch, not only at the end: every
	// sample's loss and, with a test split, the accuracy on it; of a repair
	// the accuracy alone. Costs about a third of the training time.
	ScoreEpochs bool `toml:"score_epochs"`
}

// Partial is the training of the partial model M′.
type Partial struct {
	Train
	// FrozenFraction of the layers, counted in forward order as FrozenUnit
	// says, keeps its initial values. 0 freezes nothing.
	FrozenFraction float64 `toml:"frozen_fraction"`
	FrozenUnit     string  `toml:"frozen_unit"` // layers, tensors or stages
	FrozenInit     string  `toml:"frozen_init"` // random, or base: a copy of M_s
	// FrozenNorm: frozen batch norm normalises with "batch" statistics or
	// with its "running" ones (evaluation mode).
	FrozenNorm string `toml:"frozen_norm"`
}

// Isolate says which samples become D_s.
type Isolate struct {
	Ranking string `toml:"ranking"` // loss, high-loss or gap
	// Model whose losses are ranked: partial (M′) or base (M_s).
	Model string `toml:"model"`
	// Scope ranks all samples together ("all") or each class by itself ("class").
	Scope string `toml:"scope"`
	// Epochs uses the losses of the "last" epoch, of the "clearest" (which sets
	// its lowest losses furthest apart), or the geometric "mean" over all recorded ones.
	Epochs string `toml:"epochs"`
	// ScoreNorm: a sample's loss is taken with batch norm statistics
	// "recalibrated" for the weights of the moment, or with the "running" ones.
	ScoreNorm string  `toml:"score_norm"`
	Selection string  `toml:"selection"` // rate
	Rate      float64 `toml:"rate"`      // share of all training samples
}

// Repair says how M_s is turned into M_c.
type Repair struct {
	Method string `toml:"method"` // joint, alternating, or none: no M_c
	Train
	// IsolatedLearningRate ascends on D_s while LearningRate descends on D_c.
	IsolatedLearningRate float64 `toml:"isolated_learning_rate"`
	// IsolatedBatch is the number of D_s samples in each step.
	IsolatedBatch int `toml:"isolated_batch"`
	// Objective unlearns by "ascent" on the cross-entropy, as eq. 3 has it, or
	// by descent on the "unlikelihood" −log(1 − p).
	Objective string `toml:"objective"`
	// Bound: a suspect stops counting once its loss exceeds Bound times the
	// natural logarithm of the class count; 0 never stops.
	Bound float64 `toml:"bound"`
	// RetainedBound is the same for samples of D_c: what contradicts the rest so
	// much is likely poison that the isolation missed.
	RetainedBound float64 `toml:"retained_bound"`
	// IsolatedNorm: batch norm normalises D_s with D_c in "shared" batches,
	// with "batch" statistics of its own that stay out of the running ones,
	// with the "running" statistics, or lets batches of its own "update" them.
	IsolatedNorm string `toml:"isolated_norm"`
	// FinetuneEpochs follow on D_c alone, at FinetuneLearningRate, for weights
	// that fit batch norm statistics without D_s.
	FinetuneEpochs       int     `toml:"finetune_epochs"`
	FinetuneLearningRate float64 `toml:"finetune_learning_rate"`
}
