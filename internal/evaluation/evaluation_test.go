package evaluation

import (
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/nn"
)

func TestModelMustMatchTheData(t *testing.T) {
	set := attacktest.Set(attack.Shape{Height: 8, Width: 8, Channels: 1}, 100)
	set.Classes = []string{"0", "1", "10", "2"} // as a folder has them
	for _, c := range []struct {
		d    nn.Description
		want string
	}{
		{nn.Description{Classes: set.Classes, Height: 8, Width: 8}, ""},
		{nn.Description{Classes: []string{"0", "1", "2", "10"}, Height: 8, Width: 8}, `class 2 of the model is "2", that of the data "10"`},
		{nn.Description{Classes: []string{"0", "1", "2", "3"}}, ""}, // numbered, from torchvision
		{nn.Description{Classes: []string{"0", "1", "2"}}, "3 classes"},
		{nn.Description{Classes: set.Classes, Height: 8, Width: 9}, "8×9"},
	} {
		err := matches(c.d, set)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.d, err, c.want)
		}
	}
}
