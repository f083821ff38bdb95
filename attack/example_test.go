package attack_test

import (
	"context"
	"fmt"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/catalog"
)

func Example() {
	set := attacktest.Set(attack.Shape{Height: 32, Width: 32, Channels: 3}, 100)

	a := attack.DefaultBlend()
	if err := attack.Configure(a, map[string]string{"alpha": ".15"}); err != nil {
		fmt.Println(err)
		return
	}
	part := attack.PartOf(a, 2, .05)
	part.CoverRate = .1 // these carry the trigger with their true label
	truth, err := attack.Plan(context.Background(), set, 1, []attack.Part{part})
	if err != nil {
		fmt.Println(err)
		return
	}
	poisoned, err := truth.Apply(context.Background(), set, catalog.AttackFromSpec)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(part)
	fmt.Println(len(truth.Indices(attack.Poisoned)), "of", poisoned.Len(), "samples poisoned")
	fmt.Println(len(truth.Indices(attack.Cover)), "covers")
	fmt.Println(part.Train)
	// Output:
	// blend, clean-label with covers
	// 5 of 100 samples poisoned
	// 10 covers
	// blend alpha=0.15 image= missing=0 pattern=blocks seed=0
}
