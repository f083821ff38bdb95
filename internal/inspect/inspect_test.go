package inspect

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/draw"

	"cordon/dataset"
	"cordon/internal/realdata"
)

// landscape is a soft picture that depends on the seed.
func landscape(size int, seed uint64) *image.RGBA {
	r := rand.New(rand.NewPCG(seed, 1))
	coarse := image.NewGray(image.Rect(0, 0, 6, 6))
	for i := range coarse.Pix {
		coarse.Pix[i] = byte(r.IntN(256))
	}
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	draw.CatmullRom.Scale(img, img.Bounds(), coarse, coarse.Bounds(), draw.Src, nil)
	return img
}

// recompressed is the picture after JPEG.
func recompressed(t *testing.T, img image.Image) image.Image {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 75}); err != nil {
		t.Fatal(err)
	}
	out, err := jpeg.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// patched is the picture with a red square in the corner.
func patched(img *image.RGBA) image.Image {
	out := *img
	out.Pix = slices.Clone(img.Pix)
	b := out.Bounds()
	for y := b.Max.Y - 3; y < b.Max.Y; y++ {
		for x := b.Max.X - 3; x < b.Max.X; x++ {
			out.SetRGBA(x, y, color.RGBA{255, 0, 0, 255})
		}
	}
	return &out
}

// setOf makes a set of pictures of one size.
func setOf(labels []int32, pictures ...image.Image) *dataset.Set {
	size := pictures[0].Bounds().Size()
	s := &dataset.Set{Name: "made", Format: "idx", Classes: []string{"cat", "dog"}, Height: size.Y, Width: size.X, Channels: 3, Labels: labels}
	for _, p := range pictures {
		for y := range size.Y {
			for x := range size.X {
				c := color.RGBAModel.Convert(p.At(x, y)).(color.RGBA)
				s.Pixels = append(s.Pixels, c.R, c.G, c.B)
			}
		}
	}
	return s
}

func inspectSets(t *testing.T, train, test *dataset.Set) *Report {
	t.Helper()
	var second *Part
	if test != nil {
		second = &Part{Set: test}
	}
	r, err := Inspect(context.Background(), &Part{Set: train}, second)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keys(g Group) string {
	var out []string
	for _, i := range g.Images {
		out = append(out, string(i.Split)+i.Key)
	}
	return strings.Join(out, " ")
}

func TestCopies(t *testing.T) {
	a, b, c, d := landscape(32, 1), landscape(32, 2), landscape(32, 3), landscape(32, 4)
	train := setOf([]int32{0, 0, 0, 1, 0, 1}, a, a, a, b, c, c)
	test := setOf([]int32{0, 1, 1}, a, d, d)
	r := inspectSets(t, train, test)
	if got := [3]int{r.Train.Images, r.Train.Distinct, r.Train.Copies}; got != [3]int{6, 3, 3} {
		t.Errorf("training %v", got)
	}
	if got := [3]int{r.Test.Images, r.Test.Distinct, r.Test.Copies}; got != [3]int{3, 2, 1} {
		t.Errorf("test %v", got)
	}
	if r.Across != (Across{Distinct: 1, Train: 3, Test: 1}) {
		t.Errorf("across %+v", r.Across)
	}
	if len(r.Copies) != 3 {
		t.Fatalf("%d groups", len(r.Copies))
	}
	for i, want := range []string{"train#4 train#5", "train#0 train#1 train#2 test#0", "test#1 test#2"} {
		if got := keys(r.Copies[i]); got != want {
			t.Errorf("group %d is %s, want %s", i, got, want)
		}
		if r.Copies[i].DifferentLabels != (i == 0) || r.Copies[i].BothSplits != (i == 1) {
			t.Errorf("group %d: %+v", i, r.Copies[i])
		}
	}
	if len(r.Near.Groups) != 0 || !r.Near.Complete {
		t.Errorf("near copies of pictures that are not alike: %+v", r.Near)
	}
}

func TestNearCopies(t *testing.T) {
	a, b, c := landscape(32, 1), landscape(32, 2), landscape(32, 3)
	train := setOf([]int32{0, 0, 0, 1}, a, b, c, patched(a))
	test := setOf([]int32{0}, recompressed(t, b))
	r := inspectSets(t, train, test)
	if len(r.Copies) != 0 || r.Near.Images != 4 || len(r.Near.Groups) != 2 {
		t.Fatalf("copies %v, near %+v", r.Copies, r.Near)
	}
	if g := r.Near.Groups[0]; keys(g) != "train#0 train#3" || !g.DifferentLabels || g.BothSplits {
		t.Errorf("patched: %+v", g)
	}
	if g := r.Near.Groups[1]; keys(g) != "train#1 test#0" || g.DifferentLabels || !g.BothSplits {
		t.Errorf("recompressed: %+v", g)
	}
}

// Flat pictures have no features that could be alike.
func TestFlatPicturesAreNotNear(t *testing.T) {
	grey := func(v byte) image.Image {
		img := image.NewRGBA(image.Rect(0, 0, 8, 8))
		for i := range img.Pix {
			img.Pix[i] = v
		}
		return img
	}
	r := inspectSets(t, setOf([]int32{0, 1}, grey(100), grey(101)), nil)
	if len(r.Near.Groups) != 0 || r.Test != nil {
		t.Errorf("%+v", r.Near)
	}
}

// A crowd of like pictures must not cost a comparison of all pairs.
func TestCrowd(t *testing.T) {
	s := &search{complete: true}
	const n = maxCompared + 10
	for i := range n {
		s.sketches = append(s.sketches, sketch{contrast: minContrast * cells})
		s.parent = append(s.parent, i)
	}
	if err := s.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if groups := s.groups(); len(groups) != 1 || len(groups[0]) != n || s.complete {
		t.Errorf("%d groups, complete %v", len(groups), s.complete)
	}
}

// The bands find every pair that differs in maxBits at most.
func TestBandsMissNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		a := r.Uint64()
		b := a
		for range maxBits {
			b ^= 1 << r.IntN(64)
		}
		s := &search{parent: []int{0, 1}, complete: true, sketches: []sketch{
			{hash: a, contrast: minContrast * cells}, {hash: b, contrast: minContrast * cells},
		}}
		if err := s.run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if len(s.groups()) != 1 {
			t.Fatalf("%064b and %064b are not found", a, b)
		}
		if bits.OnesCount64(spread(a)^spread(b)) != bits.OnesCount64(a^b) {
			t.Fatal("spreading changes the distance")
		}
	}
}

func TestSmallImages(t *testing.T) {
	for _, size := range []int{1, 2, 15, 17} {
		a, b := landscape(size, 1), landscape(size, 2)
		if r := inspectSets(t, setOf([]int32{0, 1, 0}, a, b, a), nil); r.Train.Copies != 1 {
			t.Errorf("size %d: %d copies", size, r.Train.Copies)
		}
	}
}

func TestImbalance(t *testing.T) {
	a := landscape(8, 1)
	r := inspectSets(t, setOf([]int32{1, 1, 1, 0}, a, a, a, a), setOf([]int32{1}, a))
	if im := r.Imbalance; im.Largest != "dog" || im.Smallest != "cat" || im.Ratio != 3 || !slices.Equal(im.MissingInTest, []string{"cat"}) {
		t.Errorf("%+v", r.Imbalance)
	}
	if want := []Class{{"cat", 1, 0}, {"dog", 3, 1}}; !slices.Equal(r.Classes, want) {
		t.Errorf("classes %+v", r.Classes)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Inspect(ctx, &Part{Set: setOf([]int32{0, 1}, landscape(8, 1), landscape(8, 2))}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// real inspects a real set.
func real(t *testing.T, name string, size int) *Report {
	t.Helper()
	dir := realdata.Dir(t, name)
	var parts []*Part
	for _, split := range []dataset.Split{dataset.Train, dataset.Test} {
		opt := dataset.Options{Size: size}
		set, err := dataset.Open(context.Background(), dir, split, opt)
		if err != nil {
			t.Fatal(err)
		}
		images, err := dataset.FileImages(context.Background(), dir, set, opt)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, &Part{set, images})
	}
	r, err := Inspect(context.Background(), parts[0], parts[1])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRealMNIST(t *testing.T) {
	r := real(t, "mnist", 0)
	if r.Train.Distinct != 60_000 || r.Test.Distinct != 10_000 || r.Across.Distinct != 0 || len(r.Copies) != 0 {
		t.Errorf("training %+v, test %+v, across %+v", r.Train, r.Test, r.Across)
	}
	if r.Imbalance.Largest != "1" || r.Imbalance.Smallest != "5" {
		t.Errorf("%+v", r.Imbalance)
	}
}

func TestRealCIFAR10(t *testing.T) {
	r := real(t, "cifar10", 0)
	if r.Train.Distinct != 50_000 || r.Test.Distinct != 10_000 || r.Across.Distinct != 0 || len(r.Copies) != 0 {
		t.Errorf("training %+v, test %+v, across %+v", r.Train, r.Test, r.Across)
	}
	if len(r.Near.Groups) == 0 || len(r.Near.Groups) > 50 || !r.Near.Complete {
		t.Errorf("%d groups of near copies, complete %v", len(r.Near.Groups), r.Near.Complete)
	}
}

func TestRealTSRD(t *testing.T) {
	r := real(t, "tsrd", 64)
	if got := [3]int{r.Train.Images, r.Train.Distinct, r.Train.Copies}; got != [3]int{4170, 1672, 2498} {
		t.Errorf("training %v", got)
	}
	if got := [3]int{r.Test.Images, r.Test.Distinct, r.Test.Copies}; got != [3]int{1994, 873, 1121} {
		t.Errorf("test %v", got)
	}
	if r.Across != (Across{Distinct: 80, Train: 364, Test: 224}) {
		t.Errorf("across %+v", r.Across)
	}
	if r.Train.Width.Min != 26 || r.Train.Width.Max != 491 || r.Train.Height.Min != 28 || r.Train.Height.Max != 402 {
		t.Errorf("sizes %+v, %+v", r.Train.Width, r.Train.Height)
	}
	if len(r.Imbalance.MissingInTest) != 4 || r.Imbalance.Ratio != 223 {
		t.Errorf("%+v", r.Imbalance)
	}
}

// Equal hashes are not enough: the thumbnails must agree.
func TestHashAloneIsNotNear(t *testing.T) {
	a, b := sketch{contrast: 20 * cells}, sketch{contrast: 20 * cells}
	for i := range b.thumb {
		b.thumb[i] = 3 // more than a tenth of the contrast
	}
	s := &search{parent: []int{0, 1}, complete: true, sketches: []sketch{a, b}}
	if err := s.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(s.groups()) != 0 {
		t.Error("pictures that differ are near")
	}
}

// Files that differ are no copies, although they look equal at the size read.
func TestCopiesByFile(t *testing.T) {
	a := landscape(8, 1)
	part := &Part{Set: setOf([]int32{0, 1, 1}, a, a, a), FileImages: []dataset.FileImage{
		{Width: 30, Height: 10, Digest: [32]byte{1}}, {Width: 10, Height: 20, Digest: [32]byte{2}}, {Width: 10, Height: 20, Digest: [32]byte{2}},
	}}
	r, err := Inspect(context.Background(), part, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Copies) != 1 || keys(r.Copies[0]) != "train#1 train#2" {
		t.Errorf("%+v", r.Copies)
	}
	if r.Train.Width != (Range{10, 10, 30}) || r.Train.Height != (Range{10, 20, 20}) {
		t.Errorf("sizes %+v, %+v", r.Train.Width, r.Train.Height)
	}
}
