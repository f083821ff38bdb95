package metric

import "fmt"

// Backdoor says what a model does with and without the trigger.
type Backdoor struct {
	// ASR is the share of triggered test images that are given the attack's
	// goal: the target label, or under all-to-all the next one. Images whose
	// goal is their true label, those of the target class, are removed (§ 5.4).
	ASR float64
	// RA is the share of the same triggered images given their true label.
	RA float64
	// Floor is the share of the same images WITHOUT the trigger that this model
	// gives the goal: what ASR is for a model without a backdoor.
	Floor     float64
	Triggered int // images behind all three
}

// Accuracy returns the share of predictions that equal the labels.
func Accuracy(predictions, labels []int32) (float64, error) {
	if len(predictions) != len(labels) {
		return 0, fmt.Errorf("%d predictions for %d labels", len(predictions), len(labels))
	}
	if len(labels) == 0 {
		return 0, fmt.Errorf("accuracy of no images is not defined")
	}
	right := 0
	for i, label := range labels {
		if predictions[i] == label {
			right++
		}
	}
	return float64(right) / float64(len(labels)), nil
}

// MeasureBackdoor compares a model's predictions for test images as they are,
// and with the trigger, with their true labels and the attack's goals. Images
// whose goal is their label are ignored.
func MeasureBackdoor(clean, triggered, labels, goals []int32) (Backdoor, error) {
	if n := len(labels); len(clean) != n || len(triggered) != n || len(goals) != n {
		return Backdoor{}, fmt.Errorf("%d and %d predictions and %d goals for %d labels", len(clean), len(triggered), len(goals), n)
	}
	var n, hits, right, floor int
	for i, label := range labels {
		if label == goals[i] {
			continue
		}
		n++
		if triggered[i] == goals[i] {
			hits++
		}
		if triggered[i] == label {
			right++
		}
		if clean[i] == goals[i] {
			floor++
		}
	}
	if n == 0 {
		return Backdoor{}, fmt.Errorf("the attack has no goal for any of %d images", len(labels))
	}
	share := func(count int) float64 { return float64(count) / float64(n) }
	return Backdoor{ASR: share(hits), RA: share(right), Floor: share(floor), Triggered: n}, nil
}
