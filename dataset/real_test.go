package dataset

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"cordon/internal/realdata"
	"cordon/internal/seed"
)

func TestRealMNIST(t *testing.T) {
	dir := realdata.Dir(t, "mnist")
	train, test := open(t, dir, Train, 0), open(t, dir, Test, 0)
	if want := []int{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}; !slices.Equal(train.Counts(), want) {
		t.Errorf("training counts %v, want %v", train.Counts(), want)
	}
	if test.Len() != 10_000 || train.Height != 28 || train.Width != 28 || train.Channels != 1 {
		t.Errorf("%d test images, %d × %d × %d", test.Len(), train.Height, train.Width, train.Channels)
	}
	wantStats(t, train, []float64{.1307}, []float64{.3081})
	wantRoundTrip(t, train, test)
}

func TestRealCIFAR10(t *testing.T) {
	dir := realdata.Dir(t, "cifar10")
	train, test := open(t, dir, Train, 0), open(t, dir, Test, 0)
	for class := range 10 {
		if train.Counts()[class] != 5000 || test.Counts()[class] != 1000 {
			t.Errorf("class %d has %d and %d images", class, train.Counts()[class], test.Counts()[class])
		}
	}
	if train.Classes[0] != "airplane" || train.Classes[9] != "truck" {
		t.Errorf("classes %v", train.Classes)
	}
	wantStats(t, train, []float64{.4914, .4822, .4465}, []float64{.2470, .2435, .2616})
	wantRoundTrip(t, train, test)
}

// TestRealTSRD reads the traffic signs, cut to their boxes. Package inspect's
// test reads them whole.
func TestRealTSRD(t *testing.T) {
	dir := realdata.Dir(t, "tsrd")
	opt := Options{Size: 32, Crop: true}
	train, err := Open(context.Background(), dir, Train, opt)
	if err != nil {
		t.Fatal(err)
	}
	test, err := Open(context.Background(), dir, Test, opt)
	if err != nil {
		t.Fatal(err)
	}
	if train.Len() != 4170 || test.Len() != 1994 || train.ImageBytes() != 32*32*3 {
		t.Errorf("%d and %d images of %d bytes", train.Len(), test.Len(), train.ImageBytes())
	}
	if len(train.Classes) != 58 || train.Classes[0] != "000" || train.Classes[57] != "057" {
		t.Errorf("classes %v", train.Classes)
	}
	counts := train.Counts()
	if slices.Min(counts) != 2 || slices.Max(counts) != 446 {
		t.Errorf("%d to %d training images a class, want 2 to 446", slices.Min(counts), slices.Max(counts))
	}
	var missing []string
	for class, n := range test.Counts() {
		if n == 0 {
			missing = append(missing, test.Classes[class])
		}
	}
	if !slices.Equal(missing, []string{"009", "018", "019", "033"}) {
		t.Errorf("the test split misses %v", missing)
	}
}

func wantStats(t *testing.T, s *Set, mean, std []float64) {
	t.Helper()
	gotMean, gotStd := s.Stats()
	for c := range mean {
		if math.Abs(gotMean[c]-mean[c]) > 5e-5 || math.Abs(gotStd[c]-std[c]) > 5e-5 {
			t.Errorf("channel %d: mean %.5f, deviation %.5f, want %.4f, %.4f", c, gotMean[c], gotStd[c], mean[c], std[c])
		}
	}
}

func wantRoundTrip(t *testing.T, train, test *Set) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Write(context.Background(), out, train, test, nil); err != nil {
		t.Fatal(err)
	}
	if fingerprint(t, open(t, out, Train, 0)) != fingerprint(t, train) || fingerprint(t, open(t, out, Test, 0)) != fingerprint(t, test) {
		t.Error("read back differently")
	}
}

// benchmarkOpen reports images and megabytes of pixels a second.
func benchmarkOpen(b *testing.B, dir string, size int) {
	var set *Set
	for b.Loop() {
		set = open(b, dir, Train, size)
	}
	b.SetBytes(int64(len(set.Pixels)))
	b.ReportMetric(float64(set.Len())*float64(b.N)/b.Elapsed().Seconds(), "images/s")
}

func BenchmarkIDX(b *testing.B) {
	const n = 20_000
	labels := make([]byte, n)
	for i := range labels {
		labels[i] = byte(i % 10)
	}
	benchmarkOpen(b, tree(b, map[string][]byte{
		"train-images-idx3-ubyte": idxFile(make([]byte, n*784), n, 28, 28),
		"train-labels-idx1-ubyte": idxFile(labels, n),
	}), 0)
}

func BenchmarkIDXGzip(b *testing.B) { benchmarkOpen(b, realdata.Dir(b, "mnist"), 0) }

func BenchmarkCIFAR(b *testing.B) {
	labels := make([]byte, cifarFileImages)
	for i := range labels {
		labels[i] = byte(i % 10)
	}
	benchmarkOpen(b, tree(b, map[string][]byte{"data_batch_1.bin": cifarRecords(1, labels...)}), 0)
}

var (
	benchImages = flag.String("images", "", "folder of images that BenchmarkDecode reads instead of its own")
	benchSize   = flag.Int("size", 224, "pixels that they are scaled to")
)

// BenchmarkDecode reads folders of image files on all cores: images a second,
// and megabytes of decoded pixels before scaling.
func BenchmarkDecode(b *testing.B) {
	if *benchImages != "" {
		b.Run("images", func(b *testing.B) { benchmarkOpen(b, *benchImages, *benchSize) })
		return
	}
	for _, c := range []struct {
		format                 string
		n, width, height, size int
	}{
		{"jpeg", 100, 500, 375, 224},
		{"png", 100, 500, 375, 224},
		{"png", 1000, 32, 32, 32},
	} {
		b.Run(fmt.Sprintf("%s-%dx%d-%d", c.format, c.width, c.height, c.size), func(b *testing.B) {
			files := map[string][]byte{}
			for i := range c.n {
				files[fmt.Sprintf("c%d/%04d", i%4, i)] = photo(b, c.format, c.width, c.height, i)
			}
			benchmarkOpen(b, tree(b, files), c.size)
			b.SetBytes(int64(c.n * c.width * c.height * 3))
		})
	}
}

// photo is a file of waves and noise, which packs about as well as a picture.
func photo(b *testing.B, format string, width, height, salt int) []byte {
	random, img := seed.Stream(uint64(salt), "test/photo"), image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			for c := range 3 {
				wave := math.Sin(float64(x*(c+1)+salt*7)/40) + math.Cos(float64(y*(3-c)-salt*5)/30)
				img.Pix[img.PixOffset(x, y)+c] = byte(128 + 50*wave + float64(random.IntN(12)))
			}
			img.Pix[img.PixOffset(x, y)+3] = 255
		}
	}
	var out bytes.Buffer
	err := png.Encode(&out, img)
	if format == "jpeg" {
		out.Reset()
		err = jpeg.Encode(&out, img, &jpeg.Options{Quality: 90})
	}
	if err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

func BenchmarkFolderWrite(b *testing.B) {
	files := map[string][]byte{}
	for i := range 500 {
		files[fmt.Sprintf("train/c%d/%04d.png", i%4, i)] = pngOf(b, textured(32, i))
	}
	set := open(b, tree(b, files), Train, 32)
	base := b.TempDir()
	n := 0
	for b.Loop() {
		n++
		if _, err := Write(context.Background(), filepath.Join(base, fmt.Sprint(n)), set, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(500*float64(b.N)/b.Elapsed().Seconds(), "images/s")
}
