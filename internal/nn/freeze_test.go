package nn

import (
	"math"
	"slices"
	"testing"

	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

func TestFrozenCounts(t *testing.T) {
	var rows []struct {
		Arch                    string
		Fraction                float64
		Layers, Tensors, Stages int
	}
	fixture(t, "frozen", &rows)
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	for _, r := range rows {
		m := shapesOf(t, Config{Arch: r.Arch, Stem: StemImageNet, Classes: fixtureClasses})
		for unit, want := range map[string]int{UnitLayers: r.Layers, UnitTensors: r.Tensors, UnitStages: r.Stages} {
			frozen, err := m.prefix(r.Fraction, unit)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Params() {
				p.frozen = !p.Buffer && frozen(p)
			}
			if got := m.trained(); got != want {
				t.Errorf("%s, first %v of the %s frozen: %d values are trained, want %d", r.Arch, r.Fraction, unit, got, want)
			}
		}
	}
}

func TestBadFraction(t *testing.T) {
	m := shapesOf(t, Config{Arch: "resnet18", Stem: StemSmall, Classes: 10})
	for _, f := range []float64{-.1, 1, 2, math.NaN()} {
		if err := m.Freeze(f, UnitLayers, torch.NormTrain); err == nil {
			t.Errorf("fraction %v was accepted", f)
		}
	}
	if err := m.Freeze(.1, "blocks", torch.NormTrain); err == nil {
		t.Error("unit blocks was accepted")
	}
}

// snapshot copies all parameters.
func snapshot(m *Model) (map[string][]float32, error) {
	out := map[string][]float32{}
	for _, p := range m.Params() {
		v, err := m.Read(p)
		if err != nil {
			return nil, err
		}
		out[p.Name] = v
	}
	return out, nil
}

// trainFrozen trains two steps with a frozen part and returns the model's
// state before and after.
func trainFrozen(e *torch.Engine, fraction float64, unit string, mode torch.NormMode) (m *Model, before, after map[string][]float32, err error) {
	if m, err = filled(e, "resnet18", StemSmall); err != nil {
		return nil, nil, nil, err
	}
	if err = m.Freeze(fraction, unit, mode); err != nil {
		return m, nil, nil, err
	}
	if before, err = snapshot(m); err != nil {
		return m, nil, nil, err
	}
	if _, err = train(m, 2, 4, torch.SGD{Rate: .01, Momentum: .9}); err != nil {
		return m, nil, nil, err
	}
	after, err = snapshot(m)
	return m, before, after, err
}

func TestFrozenPartKeepsItsValues(t *testing.T) {
	torchtest.Run(t, func(e *torch.Engine) error {
		for _, unit := range []string{UnitLayers, UnitTensors, UnitStages} {
			for _, mode := range []torch.NormMode{torch.NormTrain, torch.NormBatch, torch.NormRunning} {
				m, before, after, err := trainFrozen(e, .4, unit, mode)
				if m != nil {
					defer m.Close()
				}
				if err != nil {
					return err
				}
				frozen := 0
				for _, p := range m.Params() {
					same := slices.Equal(before[p.Name], after[p.Name])
					switch {
					case p.Buffer:
						// A batch norm is frozen with its weight, two entries before its mean.
						if want := normFrozen(m, p) && mode != torch.NormTrain; same != want {
							t.Errorf("%s, mode %d: %s: unchanged %v, want %v", unit, mode, p.Name, same, want)
						}
					case same != p.frozen:
						t.Errorf("%s, mode %d: %s: unchanged %v, frozen %v", unit, mode, p.Name, same, p.frozen)
					case p.frozen:
						frozen++
					}
				}
				if frozen == 0 {
					t.Errorf("%s: nothing is frozen", unit)
				}
				m.Close()
			}
		}
		return nil
	})
}

// normFrozen reports whether the batch norm that holds a statistic is frozen.
func normFrozen(m *Model, statistic *Param) bool {
	at := slices.Index(m.params, statistic)
	for m.params[at].Buffer {
		at--
	}
	return m.params[at-1].frozen // the weight, before the bias
}

func TestEveryFreezeOptionChangesTraining(t *testing.T) {
	torchtest.Run(t, func(e *torch.Engine) error {
		results := map[float32]string{}
		for _, c := range []struct {
			name     string
			fraction float64
			unit     string
			mode     torch.NormMode
		}{
			{"none", 0, UnitLayers, torch.NormTrain},
			{"layers", .4, UnitLayers, torch.NormTrain},
			{"fewer layers", .2, UnitLayers, torch.NormTrain},
			{"tensors", .4, UnitTensors, torch.NormTrain},
			{"stages", .4, UnitStages, torch.NormTrain},
			{"running statistics", .4, UnitLayers, torch.NormRunning},
		} {
			m, _, after, err := trainFrozen(e, c.fraction, c.unit, c.mode)
			if m != nil {
				m.Close()
			}
			if err != nil {
				return err
			}
			weight := after["fc.weight"][0]
			if other, ok := results[weight]; ok {
				t.Errorf("%q trains as %q does", c.name, other)
			}
			results[weight] = c.name
		}
		return nil
	})
}

// TestFrozenModeOnlyMattersWhileTraining: evaluation uses the running statistics
// of frozen and other batch norms alike.
func TestFrozenModeOnlyMattersWhileTraining(t *testing.T) {
	torchtest.Run(t, func(e *torch.Engine) error {
		var want []float32
		for _, mode := range []torch.NormMode{torch.NormTrain, torch.NormRunning} {
			m, err := filled(e, "resnet18", StemSmall)
			if err != nil {
				return err
			}
			defer m.Close()
			if err := m.Freeze(.5, UnitLayers, mode); err != nil {
				return err
			}
			got, err := logits(m, 2, 8, torch.NormRunning)
			if err != nil {
				return err
			}
			if want != nil && !slices.Equal(got, want) {
				t.Errorf("logits differ: %v, %v", got[:3], want[:3])
			}
			want = got
			m.Close()
		}
		return nil
	})
}
