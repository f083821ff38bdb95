package attack

import "flag"

// NoTrigger is the name of the attack None.
const NoTrigger = "none"

// None changes no pixel. With the mode label-noise it makes wrong labels, with
// dirty-label or all-to-all it is the control experiment to a trigger.
type None struct{}

// DefaultNone returns the attack that changes no pixel.
func DefaultNone() *None { return &None{} }

// Name returns NoTrigger.
func (*None) Name() string { return NoTrigger }

// Summary describes the attack.
func (*None) Summary() string { return "no trigger: nothing, or with --mode wrong labels alone" }

// Mode returns "": without a trigger nothing is usual.
func (*None) Mode() LabelMode { return "" }

// Params declares nothing.
func (*None) Params(*flag.FlagSet) {}

// Validate accepts.
func (*None) Validate() error { return nil }

// Trigger returns a trigger that copies the image.
func (n *None) Trigger(shape Shape) (Trigger, error) {
	if err := validate(n, shape); err != nil {
		return nil, err
	}
	return unchanged{shape}, nil
}

// unchanged is the trigger of None.
type unchanged struct{ shape Shape }

func (u unchanged) Shape() Shape { return u.shape }

func (u unchanged) Apply(dst, src []byte, _ int) { copy(dst, src) }
