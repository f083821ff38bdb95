package report

import (
	"fmt"
	"math"
	"slices"
	"time"

	"cordon/dataset"
	"cordon/internal/seed"
)

// The synthetic run: 2,000 images of which every tenth is poisoned, by a white
// corner, and has a low loss under M′.
const syntheticSamples = 2000

// synthetic returns a report as `cordon eval` would write it, and its evidence.
func synthetic() (*Report, Evidence) {
	v := syntheticEvidence()
	start := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	r := &Report{
		Version: Schema, Tool: "0.1.0", Started: start, Finished: start.Add(593 * time.Second),
		Machine: Machine{CPU: "Example CPU 3000", Threads: 2, Device: "cpu", Precision: "fp32", Auto: true,
			Engine: "0.1.0", Libtorch: "1.13.1", PeakResident: 1 << 30},
		Data: Data{Name: "mnist-badnets", Format: "idx", Height: 28, Width: 28, Channels: 1,
			Classes: v.Set.Classes, ClassCounts: countLabels(v, nil), Samples: syntheticSamples,
			SampledFrom: 60000, TestSamples: 10000, Fingerprint: "sha256:1f2e3d4c"},
		Recipe: Recipe{TOML: "seed = 0\n\n[model]\narch = \"resnet50\"\n", Hash: "sha256:aabbccdd"},
		Stages: []Stage{
			{"base", 240.5, 20000, 83.2}, {"partial", 130.25, 10000, 76.8},
			{"score", 12, 2000, 166.7}, {"repair", 199.9, 20000, 100.1},
		},
		Curves: []Curve{syntheticCurve("base", 5, 1), syntheticCurve("partial", 3, 2), syntheticCurve("repair", 5, .2)},
		Isolation: Isolation{Ranking: "loss", Model: "partial", Scope: "all", Epoch: 2, Rate: 0.1, Count: 200,
			Threshold: Of(0.031), ClassCounts: countLabels(v, v.Isolated)},
		Losses: Losses{Partial: NewHistogram(v.PartialLoss, v.Poisoned), Base: NewHistogram(v.BaseLoss, v.Poisoned)},
		Models: []Model{
			{"M_s", "models/base.safetensors", Of(.9812), Of(1), Of(0), Of(.0021), nil},
			{"M_s recalibrated", "models/base-recalibrated.safetensors", Of(.9809), Of(.9998), Of(.0002), Of(.0023), nil},
			{"M_c", "models/clean.safetensors", Of(.9774), Of(.0031), Of(.9502), Of(.0023), nil},
			{"M_c recalibrated", "models/clean-recalibrated.safetensors", Of(.9771), Of(.0044), Of(.9431), nil, nil},
		},
		Truth: &Truth{Attack: "BadNets, dirty-label", Target: 3, Poisoned: 200, PoisonRate: .1,
			Rankings: []Ranking{syntheticRanking("under M′", .93), syntheticRanking("under M_s", .41)}},
		Limits:    Limits(),
		NextSteps: []string{"Look at the isolated samples.", "Use models/clean.safetensors in place of your model."},
	}
	return r, v
}

// withParts makes the poisoning one of two parts, one with covers.
func withParts(r *Report, v Evidence) (*Report, Evidence) {
	r.Truth.Attack, r.Truth.Target, r.Truth.Covers = "badnets, dirty-label with covers + label-noise", -1, 50
	r.Truth.Parts = []Part{
		{Attack: "badnets, dirty-label with covers", Target: 3, Poisoned: 150, Covers: 50, Isolated: 120, IsolatedCovers: 5, AUROC: Of(.93)},
		{Attack: "label-noise", Target: -1, Poisoned: 50, Isolated: 0, AUROC: Of(.12)},
	}
	for i, m := range r.Models {
		r.Models[i].Parts = []Figures{{m.ASR, m.RA, m.Floor}, {}}
	}
	return r, v
}

// withoutTruth removes what only an experiment knows.
func withoutTruth(r *Report, v Evidence) (*Report, Evidence) {
	r.Truth, v.Poisoned = nil, nil
	r.Losses.Partial.Poisoned, r.Losses.Base.Poisoned = nil, nil
	for i := range r.Models {
		m := &r.Models[i]
		m.ASR, m.RA, m.Floor = nil, nil, nil
	}
	return r, v
}

func syntheticEvidence() Evidence {
	random := seed.Stream(1, "report/synthetic")
	s := &dataset.Set{Name: "mnist-badnets", Format: "idx", Height: 28, Width: 28, Channels: 1}
	for c := range 10 {
		s.Classes = append(s.Classes, fmt.Sprint(c))
	}
	v := Evidence{Set: s}
	for i := range syntheticSamples {
		poisoned := i%10 == 0
		label := int32(random.IntN(10))
		partial, base := -1.5+0.5*random.NormFloat64(), -3+0.8*random.NormFloat64()
		if poisoned {
			label = 3
			partial, base = -2.8+0.4*random.NormFloat64(), -3.2+0.7*random.NormFloat64()
		}
		s.Labels = append(s.Labels, label)
		s.Pixels = append(s.Pixels, syntheticImage(int(label), poisoned)...)
		v.Source = append(v.Source, 30*i)
		v.Poisoned = append(v.Poisoned, poisoned)
		v.PartialLoss = append(v.PartialLoss, float32(math.Pow(10, partial)))
		v.BaseLoss = append(v.BaseLoss, float32(math.Pow(10, base)))
	}
	v.Order = byLoss(v.PartialLoss)
	v.Isolated = v.Order[:syntheticSamples/10]
	return v
}

// syntheticImage draws bars as many as the label says, and the trigger.
func syntheticImage(label int, poisoned bool) []byte {
	m := make([]byte, 28*28)
	for bar := range label + 1 {
		for y := 4; y < 22; y++ {
			m[y*28+2+2*bar] = 200
		}
	}
	if poisoned {
		for y := 24; y < 27; y++ {
			for x := 24; x < 27; x++ {
				m[y*28+x] = 255
			}
		}
	}
	return m
}

func countLabels(v Evidence, of []int) []int {
	counts := make([]int, len(v.Set.Classes))
	for i, label := range v.Set.Labels {
		if of == nil || slices.Contains(of, i) {
			counts[label]++
		}
	}
	return counts
}

func syntheticCurve(stage string, epochs int, height float64) Curve {
	c := Curve{Stage: stage}
	for e := 1; e <= epochs; e++ {
		x := float64(e) / height
		c.Epochs = append(c.Epochs, Epoch{Epoch: e, Loss: Number(1.2 / x), TrainAccuracy: Number(1 - .2/x),
			LearningRate: Number(.05 / x), TestAccuracy: Of(1 - .25/x)})
	}
	return c
}

func syntheticRanking(name string, recall Number) Ranking {
	k := Ranking{Name: name, AUROC: .5 + recall/2.1, AUPRC: recall * .97,
		Isolated: Hit{Rate: .1, Count: 200, Precision: recall, Ceiling: 1, Recall: recall, Lift: recall * 10}}
	for _, rate := range []Number{.01, .05, .2} {
		k.Rates = append(k.Rates, Hit{Rate: rate, Count: int(rate * syntheticSamples),
			Precision: recall, Ceiling: min(1, .1/rate), Recall: recall * rate * 5, Lift: recall * 10})
	}
	for e := 1; e <= 3; e++ {
		k.Epochs = append(k.Epochs, EpochFound{Epoch: e, Recall: recall * Number(e) / 3, AUROC: .9,
			PoisonedLoss: .3 / Number(e), OtherLoss: 2 / Number(e)})
	}
	return k
}
