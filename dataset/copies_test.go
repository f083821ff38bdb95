package dataset

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestWithoutCopies(t *testing.T) {
	of := func(pixels ...byte) *Set {
		s := &Set{Height: 1, Width: 1, Channels: 1, Classes: []string{"a", "b"}, Pixels: pixels}
		for i := range pixels {
			s.Labels = append(s.Labels, int32(i%2))
		}
		return s
	}
	s := of(1, 2, 1, 3, 3, 4, 2)
	for _, c := range []struct {
		other *Set
		want  []byte
	}{
		{nil, []byte{1, 2, 3, 4}},
		{of(), []byte{1, 2, 3, 4}},
		{of(9, 2, 4), []byte{1, 3}},
	} {
		got, err := s.WithoutCopies(t.Context(), c.other)
		if err != nil {
			t.Fatal(err)
		}
		var pixels []byte
		for i := range got.Len() {
			pixels = append(pixels, got.Image(i)...)
		}
		if !slices.Equal(pixels, c.want) {
			t.Errorf("left %v, want %v", pixels, c.want)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.WithoutCopies(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := of().WithoutCopies(cancelled, s); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the other set: %v", err)
	}
}
