package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"cordon/dataset"
	"cordon/internal/atomicfile"
	"cordon/internal/regular"
)

// Schema is the version of the JSON written by this package. It grows when a
// field changes its meaning or goes away; Read refuses every other version.
const Schema = 1

// maxBytes limits what Read takes in: a report of 100 classes and 1,000 epochs
// is below 1 MiB.
const maxBytes = 64 << 20

// Report is the result of one cleaning run. Without ground truth, which is the
// usual case, Truth is nil and so are ASR, floor and RA of every model.
type Report struct {
	Version  int       `json:"version"` // Schema
	Tool     string    `json:"tool"`    // cordon's version
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Machine  Machine   `json:"machine"`
	Data     Data      `json:"data"`
	Recipe   Recipe    `json:"recipe"`
	Seed     uint64    `json:"seed"`
	Stages   []Stage   `json:"stages"` // in the order they ran
	Curves   []Curve   `json:"curves"` // base, partial, repair
	// Isolation says what became D_s (the paper's third step).
	Isolation Isolation `json:"isolation"`
	Losses    Losses    `json:"losses"`
	// Models holds M_s and, where it was repaired, M_c, each as trained and
	// recalibrated: with batch norm statistics recomputed over the samples it
	// learned from, D for M_s and D_c for M_c.
	Models    []Model  `json:"models"`
	Truth     *Truth   `json:"truth"`      // nil where the poison is not known
	Limits    []string `json:"limits"`     // what the run cannot see, one sentence each
	NextSteps []string `json:"next_steps"` // what to do now, one sentence each
}

// Machine is what the run ran on.
type Machine struct {
	CPU       string `json:"cpu"` // model name
	Threads   int    `json:"threads"`
	Device    string `json:"device"`    // cpu or cuda
	Precision string `json:"precision"` // fp32 or bf16
	// Auto says that "auto" chose the precision, for this device.
	Auto     bool   `json:"precision_auto,omitempty"`
	Engine   string `json:"engine"`   // version of the engine library
	Libtorch string `json:"libtorch"` // version of libtorch
	// PeakResident is the largest resident memory in bytes, 0 if not known.
	PeakResident int64 `json:"peak_resident"`
}

// Data is what was cleaned.
type Data struct {
	Name        string   `json:"name"`
	Format      string   `json:"format"` // idx, cifar10, cifar100, folder, csv, jsonl or tsrd
	Height      int      `json:"height"` // pixels
	Width       int      `json:"width"`
	Channels    int      `json:"channels"`
	Classes     []string `json:"classes"`
	ClassCounts []int    `json:"class_counts"` // training samples used, per class
	Samples     int      `json:"samples"`      // training samples used
	SampledFrom int      `json:"sampled_from"` // training samples there are
	TestSamples int      `json:"test_samples"` // 0 without a test split
	Fingerprint string   `json:"fingerprint"`  // hash of the training samples
}

// Recipe is the setting of the run with every default filled in.
type Recipe struct {
	TOML string `json:"toml"`
	Hash string `json:"hash"`
}

// Stage is one timed part of the run.
type Stage struct {
	Name            string `json:"name"` // base, partial, recalibrate-base, repair, …
	Seconds         Number `json:"seconds"`
	Images          int64  `json:"images"`
	ImagesPerSecond Number `json:"images_per_second"`
}

// Curve is the course of one training.
type Curve struct {
	Stage  string  `json:"stage"` // base, partial or repair
	Epochs []Epoch `json:"epochs"`
}

// Epoch is one epoch of a training.
type Epoch struct {
	Epoch         int     `json:"epoch"` // from 1
	Loss          Number  `json:"loss"`  // mean over the epoch's samples, nats
	TrainAccuracy Number  `json:"train_accuracy"`
	LearningRate  Number  `json:"learning_rate"`
	TestAccuracy  *Number `json:"test_accuracy"` // nil without a test split
}

// Isolation says which samples became D_s and how they were chosen.
type Isolation struct {
	Ranking string `json:"ranking"` // loss, high-loss or gap
	Model   string `json:"model"`   // partial (M′) or base (M_s)
	Scope   string `json:"scope"`   // all or class
	// Epoch is the one after which Model's losses were taken to rank by; 0
	// where several epochs or models took part.
	Epoch int    `json:"epoch"`
	Rate  Number `json:"rate"`  // share of all training samples, 0…1
	Count int    `json:"count"` // samples in D_s
	// Threshold is the loss that separates D_s from D_c; nil where no single
	// loss does.
	Threshold *Number `json:"threshold"`
	// ClassCounts holds the isolated samples per class, beside Data's.
	ClassCounts []int `json:"class_counts"`
}

// Losses summarises the training samples' cross-entropy, in evaluation mode.
// Nil where a model's losses were not recorded.
type Losses struct {
	Partial *Histogram `json:"partial"` // under M′
	Base    *Histogram `json:"base"`    // under M_s
}

// Model is one network of the run and how it does on the test split.
type Model struct {
	// Name is "M_s", "M_s recalibrated", "M_c" or "M_c recalibrated".
	Name string `json:"name"`
	File string `json:"file"` // relative to the run's folder
	// ACC is the share of clean test images given their true class; nil
	// without a test split.
	ACC *Number `json:"acc"`
	// ASR is the share of triggered test images, those of the target class
	// left out, that are given the target label (under all-to-all labels the
	// next one); nil without truth and where the attack has no trigger.
	ASR *Number `json:"asr"`
	// RA is the share of the same triggered images given their true class.
	RA *Number `json:"ra"`
	// Floor is the share of the same images without the trigger that are given
	// the target label: what ASR would be if there were no backdoor.
	Floor *Number `json:"floor"`
	// Parts holds the same of each of the truth's parts, where there are
	// several; the figures above are of all their triggered images together.
	Parts []Figures `json:"parts,omitempty"`
}

// Figures say what a model does with the trigger of one part; nil for a part
// without a trigger.
type Figures struct {
	ASR   *Number `json:"asr"`
	RA    *Number `json:"ra"`
	Floor *Number `json:"floor"`
}

// Truth is what only an experiment knows: the poison, and how well it was
// isolated.
type Truth struct {
	Attack     string `json:"attack"`      // for people, such as "BadNets, dirty-label"
	Target     int    `json:"target"`      // label; -1 where there are several or none
	Poisoned   int    `json:"poisoned"`    // poisoned samples among those used
	PoisonRate Number `json:"poison_rate"` // Poisoned ÷ training samples used
	// Covers counts the samples with the trigger and their true label. They do
	// not count as poisoned.
	Covers int `json:"covers,omitempty"`
	// Parts splits a poisoning that has several parts, or cover samples.
	Parts []Part `json:"parts,omitempty"`
	// Rankings of the training samples, most suspicious first. The first is
	// the one that D_s was taken from, the others are for comparison.
	Rankings []Ranking `json:"rankings"`
}

// Part is one part of the poisoning: its samples among those used, and how many
// of them were isolated.
type Part struct {
	Attack         string `json:"attack"`
	Target         int    `json:"target"` // label; -1 where there is not one
	Poisoned       int    `json:"poisoned"`
	Covers         int    `json:"covers"`
	Isolated       int    `json:"isolated"`        // poisoned samples in D_s
	IsolatedCovers int    `json:"isolated_covers"` // cover samples in D_s
	// AUROC of the part's poisoned samples against all others, under the
	// ranking that D_s was taken from; nil without such samples.
	AUROC *Number `json:"auroc"`
}

// Ranking says how well one order of the samples finds the poison.
type Ranking struct {
	Name     string       `json:"name"`     // "under M′", "under M_s", …
	Isolated Hit          `json:"isolated"` // at the run's isolation rate
	Rates    []Hit        `json:"rates"`    // at other isolation rates
	AUROC    Number       `json:"auroc"`    // .5 is chance
	AUPRC    Number       `json:"auprc"`    // the poison rate is chance
	Epochs   []EpochFound `json:"epochs"`   // empty where only the last epoch was scored
}

// Hit is how much poison lies in the most suspicious part of a ranking.
type Hit struct {
	Rate      Number `json:"rate"`  // isolation rate: share of all training samples
	Count     int    `json:"count"` // samples isolated
	Precision Number `json:"precision"`
	// Ceiling is the highest precision possible: min(1, poisoned ÷ Count).
	Ceiling Number `json:"ceiling"`
	Recall  Number `json:"recall"`
	Lift    Number `json:"lift"` // precision ÷ poison rate; 1 is chance
}

// EpochFound is how well the losses after one epoch find the poison, at the
// run's isolation rate.
type EpochFound struct {
	Epoch  int    `json:"epoch"` // from 1
	Recall Number `json:"recall"`
	AUROC  Number `json:"auroc"`
	// Mean losses under the model, whatever it is ranked by, in nats.
	PoisonedLoss Number `json:"poisoned_loss"`
	OtherLoss    Number `json:"other_loss"`
}

// Limits returns what a run of partial training cannot see or promise: the
// known weaknesses of ranking by loss and of ascent.
func Limits() []string {
	return []string{
		"A fixed isolation rate always isolates that share of the samples, on clean data too: being isolated is not proof of poison.",
		"Poison rates of 0.5 % and less give the network too little to learn from; their samples may rank anywhere.",
		"Cover samples, which carry the trigger with their true label, raise the losses of the poisoned samples.",
		"Subtle triggers (WaNet, weak blends, some clean-label attacks) are learned late: their samples can have the highest losses instead of the lowest.",
		"Attacks with several targets or triggers spread over the ranking and are only partly isolated.",
		"Classes that are easy anyway, such as MNIST's digit 1, have low losses without any poison.",
		"Exact copies of an image are memorised early and rank as suspicious.",
		"Wrong labels that are not poison have high losses and disturb rankings that look at that end.",
		"Gradient ascent on the isolated samples can cost accuracy, or move the trigger to another class: read RA beside ASR.",
		"A backdoor can be hidden by batch norm statistics alone: trust the recalibrated figures where the two differ.",
		"A backdoor that seems removed can be learned again quickly in further training on data that still holds poison.",
	}
}

// Write writes the report to path as JSON of version Schema. The file appears
// complete or not at all.
func (r *Report) Write(path string) error {
	return atomicfile.Write(path, r.encode)
}

func (r *Report) encode(w io.Writer) error {
	current := *r
	current.Version = Schema
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(&current)
}

// Read reads a report. A file that is not a report, is of another version, has
// unknown fields or contradicts itself is a *dataset.FormatError.
func Read(path string) (*Report, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	r, err := parse(b)
	if err != nil {
		return nil, &dataset.FormatError{Path: path, Offset: -1, Reason: err.Error(), Err: err}
	}
	return r, nil
}

func parse(b []byte) (*Report, error) {
	if len(b) > maxBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxBytes)
	}
	// The version first: another one may have other fields.
	var head struct{ Version *int }
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("not a report: %w", err)
	}
	if head.Version == nil {
		return nil, errors.New("not a report: no version")
	}
	if *head.Version != Schema {
		return nil, fmt.Errorf("report version %d; this cordon reads version %d", *head.Version, Schema)
	}
	var r Report
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	return &r, r.check()
}

// check refuses a report whose parts contradict each other.
func (r *Report) check() error {
	classes := len(r.Data.Classes)
	switch {
	case len(r.Data.ClassCounts) != classes:
		return fmt.Errorf("%d class counts for %d classes", len(r.Data.ClassCounts), classes)
	case len(r.Isolation.ClassCounts) != 0 && len(r.Isolation.ClassCounts) != classes:
		return fmt.Errorf("%d isolated class counts for %d classes", len(r.Isolation.ClassCounts), classes)
	case r.Truth != nil && (r.Truth.Target < -1 || r.Truth.Target >= classes):
		return fmt.Errorf("target %d with %d classes", r.Truth.Target, classes)
	}
	for _, h := range []*Histogram{r.Losses.Partial, r.Losses.Base} {
		if err := h.check(); err != nil {
			return err
		}
	}
	return nil
}
