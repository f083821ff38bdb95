package nn

import (
	"fmt"

	"cordon/internal/torch"
)

// SGD is stochastic gradient descent on a model's trained parameters, with its
// velocities. It lives as long as the model.
type SGD struct {
	model    *Model
	params   []*Param
	tensors  []torch.Tensor
	velocity []torch.Tensor
}

// NewSGD starts an optimiser with zero velocities. Freeze first.
func (m *Model) NewSGD() (*SGD, error) {
	o := &SGD{model: m}
	var zeros []float32 // copied, so one serves all
	for _, p := range m.params {
		if p.Buffer || p.frozen {
			continue
		}
		if n := p.Count(); n > len(zeros) {
			zeros = make([]float32, n)
		}
		o.params = append(o.params, p)
		o.tensors = append(o.tensors, p.tensor)
		o.velocity = append(o.velocity, m.scope.Parameter(zeros[:p.Count()], false, p.Shape...))
	}
	return o, m.scope.Err()
}

// Step applies the collected gradients and drops them.
func (o *SGD) Step(s *torch.Scope, set torch.SGD) { s.SGDStep(o.tensors, o.velocity, set) }

// Velocity is one velocity, for a checkpoint.
type Velocity struct {
	Name   string // of its parameter
	Shape  []int
	Values []float32
}

// Velocities copies the optimiser's state to the host.
func (o *SGD) Velocities() ([]Velocity, error) {
	out := make([]Velocity, len(o.params))
	for i, p := range o.params {
		out[i] = Velocity{Name: p.Name, Shape: p.Shape, Values: make([]float32, p.Count())}
		o.model.scope.ReadFloats(o.velocity[i], out[i].Values)
	}
	return out, o.model.scope.Err()
}

// SetVelocity restores one velocity; name is its parameter's.
func (o *SGD) SetVelocity(name string, values []float32) error {
	for i, p := range o.params {
		if p.Name != name {
			continue
		}
		if len(values) != p.Count() {
			return fmt.Errorf("velocity of %s has %d values, got %d", name, p.Count(), len(values))
		}
		o.model.scope.SetFloats(o.velocity[i], values)
		return o.model.scope.Err()
	}
	return fmt.Errorf("no trained parameter %q", name)
}
