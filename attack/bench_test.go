package attack_test

import (
	"fmt"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/catalog"
)

// BenchmarkTriggered times reading images that are all triggered: what a
// poisoned set costs more than its source, for each poisoned sample.
func BenchmarkTriggered(b *testing.B) {
	for _, a := range catalog.Attacks() {
		if a.Name() == "custom" { // needs a picture, costs what blend does
			continue
		}
		for _, side := range []int{32, 224} {
			b.Run(fmt.Sprintf("%s/%d", a.Name(), side), func(b *testing.B) {
				set := attacktest.Set(attack.Shape{Height: side, Width: side, Channels: 3}, 64)
				part := attack.PartOf(a, -1, 1)
				part.Mode = attack.AllToAll
				truth, err := attack.Plan(b.Context(), set, 0, []attack.Part{part})
				if err != nil {
					b.Fatal(err)
				}
				poisoned, err := truth.Apply(b.Context(), set, catalog.AttackFromSpec)
				if err != nil {
					b.Fatal(err)
				}
				b.ResetTimer()
				for i := range b.N {
					poisoned.Image(i % set.Len())
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
			})
		}
	}
}
