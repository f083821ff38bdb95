package attack

import (
	"bytes"
	"image/png"
	"testing"

	"cordon/dataset"
)

// brighter adds to the first pixels of an image.
type brighter struct {
	shape  Shape
	by     byte
	pixels int
}

func (b brighter) Shape() Shape { return b.shape }

func (b brighter) Apply(dst, src []byte, _ int) {
	copy(dst, src)
	for i := range b.pixels {
		dst[i] += b.by
	}
}

// TestPreviewColumns looks at the first pixel of a sample in each of the three
// columns: as it was, as it is, and what was added, as large as grey allows.
func TestPreviewColumns(t *testing.T) {
	shape := Shape{Height: 12, Width: 12, Channels: 1}
	set := &dataset.Set{
		Height: 12, Width: 12, Channels: 1, Classes: []string{"a", "b"},
		Labels: []int32{1}, Pixels: bytes.Repeat([]byte{30}, shape.Bytes()),
	}
	part := PartOf(DefaultBadNets(), 0, .1)
	for _, c := range []struct {
		trigger brighter
		want    [3]byte
	}{
		{brighter{shape, 10, 144}, [3]byte{30, 40, 128 + 8*10}},
		{brighter{shape, 16, 144}, [3]byte{30, 46, 255}}, // 256, by one too many
		{brighter{shape, 17, 144}, [3]byte{30, 47, 128 + 4*17}},
		{brighter{shape, 100, 144}, [3]byte{30, 130, 128 + 100}},
		{brighter{shape, 200, 144}, [3]byte{30, 230, 255}},
		{brighter{shape, 100, 1}, [3]byte{30, 130, 255}}, // of few pixels more may be cut off
		{brighter{shape, 100, 2}, [3]byte{30, 130, 128 + 100}},
	} {
		var file bytes.Buffer
		if err := PreviewTest(&file, set, []Part{part}, []Trigger{c.trigger}); err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(&file)
		if err != nil {
			t.Fatal(err)
		}
		for column, want := range c.want {
			left := previewGap + column*(previewSide+previewGap)
			if r, _, _, _ := picture.At(left, previewGap+previewTitle).RGBA(); byte(r>>8) != want {
				t.Errorf("%+v: column %d shows %d, want %d", c.trigger, column, r>>8, want)
			}
		}
	}
}

// A set enlarged after the poisoning has every variant of the poisoned image.
func TestEnlarge(t *testing.T) {
	shape := Shape{Height: 12, Width: 12, Channels: 1}
	set := &dataset.Set{
		Height: 12, Width: 12, Channels: 1, Classes: []string{"a", "b"},
		Labels: []int32{1, 0, 1, 1}, Pixels: make([]byte, 4*shape.Bytes()),
	}
	for i := range set.Pixels {
		set.Pixels[i] = byte(7 * i)
	}
	build := func(s Spec) (Attack, error) { a := DefaultBadNets(); return a, Configure(a, s.Params) }
	plan, err := Plan(t.Context(), set, 3, []Part{PartOf(DefaultBadNets(), 0, .5)})
	if err != nil {
		t.Fatal(err)
	}
	once, err := plan.Apply(t.Context(), set, build)
	if err != nil {
		t.Fatal(err)
	}
	variants := []dataset.Variant{dataset.HFlip, dataset.ColorJitter, dataset.Original}
	want, err := once.Enlarge(variants, 9)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := plan.Enlarge(variants, 9)
	if err != nil {
		t.Fatal(err)
	}
	got, err := truth.Apply(t.Context(), set, build)
	if err != nil {
		t.Fatal(err)
	}
	if got.Len() != 12 || truth.Samples != 12 || truth.Count(0, Poisoned) != 6 {
		t.Fatalf("%d samples, %d in the truth, %d poisoned", got.Len(), truth.Samples, truth.Count(0, Poisoned))
	}
	for i := range want.Len() {
		if !bytes.Equal(got.Image(i), want.Image(i)) || got.Labels[i] != want.Labels[i] {
			t.Errorf("image %d is not that of the poisoned set enlarged", i)
		}
	}
	for _, c := range truth.Changed {
		if got.Labels[c.Index] != c.Given || set.Labels[c.Source%4] != c.Label {
			t.Errorf("%+v is not what was made", c)
		}
	}
	var file bytes.Buffer
	if err := Preview(&file, set, got, truth); err != nil {
		t.Error(err)
	}
	if _, err := truth.Enlarge(variants, 9); err == nil {
		t.Error("enlarged twice")
	}
	for name, spoil := range map[string]func(*Truth){
		"one variant of another image": func(t *Truth) { t.Changed[0].Source, t.Changed[0].Label = 1-t.Changed[0].Source, 0 },
		"a set no multiple of them":    func(t *Truth) { t.Samples++ },
		"one twice":                    func(t *Truth) { t.Variants[1] = t.Variants[0] },
		"an unknown one":               func(t *Truth) { t.Variants[0] = "nonsense" },
		"one of colour":                func(t *Truth) { t.Variants[0] = dataset.Grayscale },
		"none":                         func(t *Truth) { t.Variants = nil },
	} {
		truth, err := plan.Enlarge(variants, 9)
		if err != nil {
			t.Fatal(err)
		}
		spoil(truth)
		if err := truth.validateVariants(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
