package metric

import "fmt"

// Backdoor says what a model does with and without the trigger.
type Backdoor struct {
	ACC float64 // accuracy on the clean test set
	// ASR is the share of triggered test images, those of the target class
	// removed (§ 5.4), that are given the target label.
	ASR float64
	// RA is the share of the same triggered images given their true label.
	RA float64
	// Floor is the share of the same images WITHOUT the trigger that this model
	// gives the target label: what ASR is for a model without a backdoor.
	Floor     float64
	Images    int // behind ACC
	Triggered int // behind ASR, RA and Floor: images not of the target class
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

// MeasureBackdoor compares a model's predictions for the clean test images
// and for the same images with the trigger with their true labels. Predictions
// for triggered images of the target class are ignored.
func MeasureBackdoor(clean, triggered, labels []int32, target int32) (Backdoor, error) {
	if len(triggered) != len(labels) {
		return Backdoor{}, fmt.Errorf("%d predictions with the trigger for %d labels", len(triggered), len(labels))
	}
	acc, err := Accuracy(clean, labels)
	if err != nil {
		return Backdoor{}, err
	}
	var n, hits, right, floor int
	for i, label := range labels {
		if label == target {
			continue
		}
		n++
		if triggered[i] == target {
			hits++
		}
		if triggered[i] == label {
			right++
		}
		if clean[i] == target {
			floor++
		}
	}
	if n == 0 {
		return Backdoor{}, fmt.Errorf("all %d images are of the target class %d", len(labels), target)
	}
	share := func(count int) float64 { return float64(count) / float64(n) }
	return Backdoor{
		ACC: acc, ASR: share(hits), RA: share(right), Floor: share(floor),
		Images: len(labels), Triggered: n,
	}, nil
}
