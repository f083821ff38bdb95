package attack_test

import (
	"context"
	"fmt"

	"cordon/attack"
	"cordon/attack/attacktest"
)

func Example() {
	set := attacktest.Set(attack.Shape{Height: 32, Width: 32, Channels: 3}, 100)

	a := attack.DefaultBlend()
	if err := attack.Configure(a, map[string]string{"alpha": ".15"}); err != nil {
		fmt.Println(err)
		return
	}
	trigger, err := a.Trigger(attack.ShapeOf(set))
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := attack.NewPlan(set, attack.PlanOptions{Rate: .05, Target: 2, Mode: a.Mode(), Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	poisoned, err := attack.Apply(context.Background(), set, plan, trigger)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(plan.Indices), "of", poisoned.Len(), "samples poisoned")
	fmt.Println(attack.SpecOf(a))
	// Output:
	// 5 of 100 samples poisoned
	// {blend map[alpha:0.15 pattern:blocks seed:0]}
}
