package nn

import (
	"fmt"
	"math"

	"cordon/internal/torch"
)

// Units in which a frozen fraction is counted.
const (
	// UnitLayers counts weight layers in forward order: convolutions on the
	// main path and the final linear layer, 50 in ResNet-50. Batch norms and
	// shortcuts go with their layer.
	UnitLayers = "layers"
	// UnitTensors counts trained tensors in the order of the state dictionary.
	UnitTensors = "tensors"
	// UnitStages counts the stem, the four residual stages and the head.
	UnitStages = "stages"
)

// Freeze stops the training of the first part of the network (the paper's § 4:
// "freeze the parameters of the first few layers"; § 5.3: the first 10 %).
// fraction is between 0 and 1 and rounds to the nearest whole number of units,
// but at least one if it is positive, and never all of them. mode is how frozen
// batch norms behave in training: NormTrain or NormRunning.
func (m *Model) Freeze(fraction float64, unit string, mode torch.NormMode) error {
	if fraction < 0 || fraction >= 1 || math.IsNaN(fraction) {
		return fmt.Errorf("frozen fraction must be at least 0 and below 1, not %v", fraction)
	}
	frozen, err := m.prefix(fraction, unit)
	if err != nil {
		return err
	}
	m.frozenNorm = mode
	for _, p := range m.params {
		if p.Buffer || p.frozen == frozen(p) {
			continue
		}
		p.frozen = frozen(p)
		values, err := m.Read(p)
		if err != nil {
			return err
		}
		p.tensor = m.scope.Parameter(values, !p.frozen, p.Shape...)
	}
	return m.scope.Err()
}

// prefix returns which trained parameters lie in the first part.
func (m *Model) prefix(fraction float64, unit string) (func(*Param) bool, error) {
	switch unit {
	case UnitLayers:
		n := units(fraction, m.layers)
		return func(p *Param) bool { return p.Layer < n }, nil
	case UnitStages:
		n := units(fraction, 6)
		return func(p *Param) bool { return p.Stage < n }, nil
	case UnitTensors:
		var trained []*Param
		for _, p := range m.params {
			if !p.Buffer {
				trained = append(trained, p)
			}
		}
		first := map[*Param]bool{}
		for _, p := range trained[:units(fraction, len(trained))] {
			first[p] = true
		}
		return func(p *Param) bool { return first[p] }, nil
	}
	return nil, fmt.Errorf("unknown unit of the frozen fraction %q: want %s, %s or %s", unit, UnitLayers, UnitTensors, UnitStages)
}

func units(fraction float64, all int) int {
	if fraction == 0 {
		return 0
	}
	return min(max(1, int(math.Round(fraction*float64(all)))), all-1)
}
