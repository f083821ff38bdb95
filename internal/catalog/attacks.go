// Package catalog lists what can be chosen by name. The lists are explicit, so
// their order is fixed and a search finds every entry.
package catalog

import (
	"fmt"
	"strings"

	"cordon/attack"
)

// Attacks returns every attack with its default parameters.
func Attacks() []attack.Attack {
	return []attack.Attack{
		attack.DefaultBadNets(),
		attack.DefaultBlend(),
		attack.DefaultSIG(),
		attack.DefaultWaNet(),
		attack.DefaultCustom(),
		attack.DefaultNone(),
	}
}

// AttackByName returns an attack with its default parameters. An unknown name
// is an error that lists the known ones.
func AttackByName(name string) (attack.Attack, error) {
	var names []string
	for _, a := range Attacks() {
		if a.Name() == name {
			return a, nil
		}
		names = append(names, a.Name())
	}
	return nil, fmt.Errorf("unknown attack %q (known: %s)", name, strings.Join(names, ", "))
}

// AttackFromSpec returns the attack a spec names, with its parameters.
func AttackFromSpec(spec attack.Spec) (attack.Attack, error) {
	a, err := AttackByName(spec.Name)
	if err != nil {
		return nil, err
	}
	if err := attack.Configure(a, spec.Params); err != nil {
		return nil, err
	}
	return a, nil
}
