package nn

import (
	"fmt"

	"cordon/internal/torch"
)

// SGD is stochastic gradient descent on a model's trained parameters, with its
// velocities. They live until Close.
type SGD struct {
	scope    *torch.Scope
	params   []*Param
	tensors  []torch.Tensor
	velocity []torch.Tensor
}

// NewSGD starts an optimiser with zero velocities. Freeze first.
func (m *Model) NewSGD() (*SGD, error) {
	o := &SGD{scope: m.NewScope(false)}
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
		o.velocity = append(o.velocity, o.scope.Parameter(zeros[:p.Count()], false, p.Shape...))
	}
	if err := o.scope.Err(); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// Close frees the velocities, which are as large as the model.
func (o *SGD) Close() { o.scope.Close() }

// Descend does one step against the gradient of a loss.
func (o *SGD) Descend(s *torch.Scope, loss torch.Tensor, set torch.SGD) {
	s.Descend(loss, o.tensors, o.velocity, set)
}

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
		o.scope.ReadFloats(o.velocity[i], out[i].Values)
	}
	return out, o.scope.Err()
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
		o.scope.SetFloats(o.velocity[i], values)
		return o.scope.Err()
	}
	return fmt.Errorf("no trained parameter %q", name)
}
