package train

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestSchedulesMatchPyTorch compares with torch.optim.lr_scheduler as
// tools/parity/train.py ran it.
func TestSchedulesMatchPyTorch(t *testing.T) {
	folder := os.Getenv("CORDON_FIXTURES")
	if folder == "" {
		folder = "testdata"
	}
	text, err := os.ReadFile(filepath.Join(folder, "schedules.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name       string
		Rate       float64
		Epochs     int
		PerEpoch   int     `json:"per_epoch"`
		StepEpochs int     `json:"step_epochs"`
		StepFactor float64 `json:"step_factor"`
		Rates      []float64
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range cases {
		seen[c.Name] = true
		s := Schedule{Name: c.Name, Rate: c.Rate, Epochs: c.Epochs, StepEpochs: c.StepEpochs, StepFactor: c.StepFactor}
		if len(c.Rates) != c.Epochs*c.PerEpoch {
			t.Fatalf("%+v: %d rates", s, len(c.Rates))
		}
		for step, want := range c.Rates {
			got, err := s.At(step, c.PerEpoch)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-want) > 1e-9*c.Rate {
				t.Errorf("%+v, step %d: rate %v, want %v", s, step, got, want)
			}
		}
	}
	for _, name := range []string{"constant", "step", "cosine", "one-cycle"} {
		if !seen[name] {
			t.Errorf("no case of %s", name)
		}
	}
}

func TestShortTrainingsHaveARate(t *testing.T) {
	for _, name := range []string{"constant", "step", "cosine", "one-cycle"} {
		for total := 1; total < 8; total++ {
			s := Schedule{Name: name, Rate: .1, Epochs: 1, StepEpochs: 1, StepFactor: .1}
			for step := range total {
				if rate, err := s.At(step, total); err != nil || !(rate > 0 && rate <= .1) {
					t.Errorf("%s, step %d of %d: rate %v, %v", name, step, total, rate, err)
				}
			}
		}
	}
	if _, err := (Schedule{Name: "linear"}).At(0, 1); err == nil {
		t.Error("an unknown schedule was accepted")
	}
}
