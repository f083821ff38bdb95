package catalog_test

import (
	"reflect"
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/catalog"
)

func TestAttacks(t *testing.T) {
	for _, a := range catalog.Attacks() {
		t.Run(a.Name(), func(t *testing.T) { attacktest.Run(t, fresh(t, attack.SpecOf(a))) })
	}
}

// fresh makes the attack of a spec, whatever the shape.
func fresh(t *testing.T, spec attack.Spec) attacktest.Make {
	return func(attack.Shape) attack.Attack {
		a, err := catalog.AttackFromSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// TestAttackVariants runs the suite on parameters other than the defaults and
// checks that a fresh attack takes all of them over from the spec.
func TestAttackVariants(t *testing.T) {
	for _, spec := range []attack.Spec{
		{Name: "badnets", Params: map[string]string{"size": "5", "corner": "top-left", "pattern": "checkerboard"}},
		{Name: "badnets", Params: map[string]string{"size": "1", "corner": "bottom-left", "pattern": "square"}},
		{Name: "blend", Params: map[string]string{"alpha": "0.1", "pattern": "noise", "seed": "18446744073709551615"}},
		{Name: "sig", Params: map[string]string{"delta": "20.5", "frequency": "3"}},
		{Name: "wanet", Params: map[string]string{"grid": "8", "strength": "2", "rescale": "0.9", "noise": "1", "seed": "3"}},
	} {
		t.Run(spec.Name, func(t *testing.T) {
			a, err := catalog.AttackFromSpec(spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := attack.SpecOf(a); !reflect.DeepEqual(got, spec) {
				t.Errorf("spec became %v, want %v", got, spec)
			}
			attacktest.Run(t, fresh(t, spec))
		})
	}
}

func TestAttackErrors(t *testing.T) {
	for _, c := range []struct {
		spec attack.Spec
		want string // what the error must say
	}{
		{attack.Spec{Name: "badnet"}, "badnets, blend, sig, wanet, none"},
		{attack.Spec{Name: "sig", Params: map[string]string{"alpha": ".2"}}, "delta, frequency"},
		{attack.Spec{Name: "sig", Params: map[string]string{"frequency": "six"}}, `frequency="six"`},
		{attack.Spec{Name: "sig", Params: map[string]string{"delta": "NaN"}}, "delta"},
		{attack.Spec{Name: "blend", Params: map[string]string{"alpha": "1.5"}}, "alpha"},
		{attack.Spec{Name: "blend", Params: map[string]string{"alpha": "NaN"}}, "alpha"},
		{attack.Spec{Name: "blend", Params: map[string]string{"pattern": "stripes"}}, "blocks, noise"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"corner": "left"}}, "bottom-right"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"size": "0"}}, "size"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"grid": "1"}}, "2 to 64"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"strength": "0"}}, "strength"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"rescale": "NaN"}}, "rescale"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"noise": "-1"}}, "noise"},
	} {
		if _, err := catalog.AttackFromSpec(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %q", c.spec, err, c.want)
		}
	}
}
