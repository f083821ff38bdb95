package dataset

import (
	"bytes"
	"hash/crc32"
	"slices"
	"testing"
)

func enlarge(t *testing.T, s *Set, variants []Variant, seedValue uint64) *Set {
	t.Helper()
	out, err := s.Enlarge(variants, seedValue)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEnlarge(t *testing.T) {
	set := open(t, tree(t, folderTree(t)), Train, 8)
	variants := append(PaperVariants(), Original)
	big := enlarge(t, set, variants, 7)
	if big.Len() != 6*set.Len() || len(big.Files) != big.Len() {
		t.Fatalf("%d images, %d files", big.Len(), len(big.Files))
	}
	at := func(v Variant, i int) int { return slices.Index(variants, v)*set.Len() + i }
	pixel := func(s *Set, i, x, y int) []byte { return s.Image(i)[3*(8*y+x):][:3] }
	for i := range set.Len() {
		if !bytes.Equal(big.Image(at(Original, i)), set.Image(i)) || big.Key(at(Original, i)) != set.Key(i) {
			t.Errorf("image %d: the original differs", i)
		}
		for v := range variants {
			if big.Labels[v*set.Len()+i] != set.Labels[i] {
				t.Errorf("image %d: another label as %s", i, variants[v])
			}
			if variants[v] != Original && bytes.Equal(big.Image(v*set.Len()+i), set.Image(i)) {
				t.Errorf("image %d: %s changes nothing", i, variants[v])
			}
		}
		for y := range 8 {
			for x := range 8 {
				want := pixel(set, i, x, y)
				if !bytes.Equal(pixel(big, at(HFlip, i), 7-x, y), want) || !bytes.Equal(pixel(big, at(VFlip, i), x, 7-y), want) {
					t.Fatalf("image %d: pixel (%d, %d) is flipped to a wrong place", i, x, y)
				}
			}
		}
		if !isGrey(big.Image(at(Grayscale, i))) {
			t.Errorf("image %d: not grey", i)
		}
	}
	if got := big.Key(at(HFlip, 3)); got != "train/dog/c.hflip.png" {
		t.Errorf("key %q", got)
	}
}

// The numbers are the definitions, computed by hand.
func TestVariantValues(t *testing.T) {
	for _, c := range []struct{ a, b, factor, want int }{
		{0, 200, 1400, 255}, {0, 200, 600, 120}, {100, 50, 1400, 30}, {100, 20, 1400, 0}, {100, 51, 500, 76}, {90, 10, 0, 90},
	} {
		if got := blend(c.a, c.b, c.factor); int(got) != c.want {
			t.Errorf("blend of %d and %d by %d is %d, want %d", c.a, c.b, c.factor, got, c.want)
		}
	}
	if got := luma([]byte{200, 100, 50}); got != 124 {
		t.Errorf("luma %d, want 124", got)
	}
	flat := &Set{Classes: []string{"a", "b"}, Height: 32, Width: 32, Channels: 1, Labels: []int32{0}, Pixels: make([]byte, 1024)}
	for k := range flat.Pixels {
		if x, y := k%32, k/32; x < 2 || x > 29 || y < 2 || y > 29 {
			flat.Pixels[k] = 255
		}
	}
	if got := enlarge(t, flat, []Variant{CenterCrop}, 0); slices.Max(got.Image(0)) != 0 {
		t.Error("the centre crop of 32 pixels keeps some of the outer two")
	}
}

func TestEnlargeIsDeterministic(t *testing.T) {
	set := open(t, tree(t, folderTree(t)), Train, 8)
	variants := PaperVariants()
	together := enlarge(t, set, variants, 1)
	want := fingerprint(t, together)
	if fingerprint(t, enlarge(t, set, PaperVariants(), 2)) == want {
		t.Error("another seed gives the same jitter")
	}
	// A variant does not depend on what it is asked for with.
	alone := enlarge(t, set, []Variant{ColorJitter}, 1)
	for i := range alone.Len() {
		if !bytes.Equal(alone.Image(i), together.Image(alone.Len()+i)) {
			t.Errorf("image %d: the jitter depends on the other variants", i)
		}
	}
	if slices.Reverse(variants); fingerprint(t, together) != want {
		t.Error("read again, the images differ")
	}
}

// TestEnlargeStays pins the variants and the draws of the jitter: results measured on
// TSRD ×5 depend on them.
func TestEnlargeStays(t *testing.T) {
	set := &Set{Height: 16, Width: 16, Channels: 3, Labels: []int32{0, 1}, Pixels: make([]byte, 2*16*16*3)}
	for k := range set.Pixels {
		set.Pixels[k] = byte(k*37 + k/8*11)
	}
	big := enlarge(t, set, PaperVariants(), 0)
	for v, want := range map[Variant]uint32{
		CenterCrop: 0xc22f4862, ColorJitter: 0x1da23e19, Grayscale: 0x9ade7486, HFlip: 0xf675e9e2, VFlip: 0x5c2f85b0,
	} {
		if got := crc32.ChecksumIEEE(big.Image(2*slices.Index(PaperVariants(), v) + 1)); got != want {
			t.Errorf("%s makes %#08x, want %#08x", v, got, want)
		}
	}
}

func TestEnlargeRefuses(t *testing.T) {
	colour, grey := open(t, tree(t, folderTree(t)), Train, 8), open(t, tree(t, idxTree()), Train, 0)
	for name, c := range map[string]struct {
		set      *Set
		variants []Variant
	}{
		"none": {colour, nil}, "unknown": {colour, []Variant{"rotate"}},
		"twice": {colour, []Variant{HFlip, HFlip}}, "grey again": {grey, []Variant{Grayscale}},
	} {
		if _, err := c.set.Enlarge(c.variants, 0); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if got := enlarge(t, grey, []Variant{HFlip, ColorJitter}, 0); got.Len() != 2*grey.Len() || got.Key(7) != "#7" {
		t.Errorf("grey: %d images, key %s", got.Len(), got.Key(7))
	}
}
