package nn

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

var update = flag.Bool("update", false, "write testdata/losses.json with the engine at hand")

// TestTwentyStepsOnEveryEngine compares 20 losses with those of libtorch
// 1.13: another libtorch, or another of our operators, may differ by rounding
// only.
func TestTwentyStepsOnEveryEngine(t *testing.T) {
	const steps, file = 20, "losses.json"
	var got []float64
	torchtest.Run(t, func(e *torch.Engine) (err error) {
		t.Log(e.Info().Build)
		m, err := filled(e, "resnet18", StemSmall)
		if err != nil {
			return err
		}
		defer m.Close()
		got, err = train(m, steps, 16, torch.SGD{Rate: 2e-4, Momentum: .9, WeightDecay: 5e-4})
		return err
	})
	if *update {
		text, err := json.MarshalIndent(got, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata", file), append(text, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var want []float64
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != steps {
		t.Fatalf("%d losses", len(want))
	}
	for i, w := range want {
		d := math.Abs(got[i]/w - 1)
		t.Logf("step %2d: %.7f, %.7f with libtorch 1.13, relative difference %.1e", i+1, got[i], w, d)
		// Rounding grows as training goes on, and a ReLU may switch.
		if limit := []float64{2e-4, 2e-3}[i/(steps/2)]; d > limit {
			t.Errorf("step %d: loss %v, want %v within %v", i+1, got[i], w, limit)
		}
	}
}
