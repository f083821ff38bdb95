package dataset

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/image/bmp"
)

func TestReadFolder(t *testing.T) {
	dir := tree(t, folderTree(t))
	train, test := open(t, dir, Train, 8), open(t, dir, Test, 8)
	if want := []string{"cat", "dog"}; !slices.Equal(train.Classes, want) || !slices.Equal(test.Classes, want) {
		t.Errorf("classes %v and %v, want %v", train.Classes, test.Classes, want)
	}
	if want := []string{"train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "train/dog/c.png"}; !slices.Equal(train.Files, want) {
		t.Errorf("files %v, want %v", train.Files, want)
	}
	if train.Key(3) != "train/dog/c.png" || !slices.Equal(train.Labels, []int32{0, 0, 1, 1}) {
		t.Errorf("key %q, labels %v", train.Key(3), train.Labels)
	}
	want := make([]byte, 8*8*3)
	pack(want, 3, scaled(textured(8, 2), image.Rect(0, 0, 8, 8), 8, 8))
	if !bytes.Equal(train.Image(0), want) {
		t.Error("pixels of train/cat/a.png differ")
	}
}

func TestFolderLayouts(t *testing.T) {
	img := pngOf(t, textured(4, 0))
	for name, c := range map[string]struct {
		files []string
		train []string // class names; nil for no such split
		test  int      // images; -1 for no such split
	}{
		"classes only":        {[]string{"b/1.png", "a/1.png"}, []string{"a", "b"}, -1},
		"classes named train": {[]string{"train/1.png", "car/1.png"}, []string{"car", "train"}, -1},
		"train only":          {[]string{"train/b/1.png", "train/a/1.png"}, []string{"a", "b"}, -1},
		"test only":           {[]string{"test/b/1.png", "test/a/1.png"}, nil, 2},
		"test misses one":     {[]string{"train/b/1.png", "train/a/1.png", "test/b/1.png"}, []string{"a", "b"}, 1},
		"other files":         {[]string{"README.md", "train/README.md", "train/b/1.png", "train/a/1.png", "val/x/1.png", "train/a/.hidden"}, []string{"a", "b"}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{}
			for _, f := range c.files {
				files[f] = img
			}
			dir := tree(t, files)
			train, err := Open(context.Background(), dir, Train, Options{Size: 4})
			switch {
			case c.train == nil && !errors.Is(err, ErrNoSplit):
				t.Errorf("train: got %v, want ErrNoSplit", err)
			case c.train != nil && (err != nil || !slices.Equal(train.Classes, c.train)):
				t.Errorf("train: got %v, %v", train, err)
			}
			test, err := Open(context.Background(), dir, Test, Options{Size: 4})
			switch {
			case c.test < 0 && !errors.Is(err, ErrNoSplit):
				t.Errorf("test: got %v, want ErrNoSplit", err)
			case c.test >= 0 && (err != nil || test.Len() != c.test || len(test.Classes) != 2):
				t.Errorf("test: got %v, %v", test, err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	jpegOf := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 100}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	bmpOf := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := bmp.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		data  []byte
		want  [3]int
		slack int
	}{
		"png":               {pngOf(t, flat(9, color.NRGBA{200, 100, 50, 255})), [3]int{200, 100, 50}, 0},
		"png 16-bit":        {pngOf(t, flat(9, color.NRGBA64{0xc8ff, 0x6400, 0x3210, 0xffff})), [3]int{200, 100, 50}, 0},
		"png transparent":   {pngOf(t, flat(9, color.NRGBA{200, 100, 50, 0})), [3]int{255, 255, 255}, 0},
		"png half":          {pngOf(t, flat(9, color.NRGBA{0, 0, 0, 128})), [3]int{127, 127, 127}, 1},
		"png grey":          {pngOf(t, &image.Gray{Pix: bytes.Repeat([]byte{77}, 81), Stride: 9, Rect: image.Rect(0, 0, 9, 9)}), [3]int{77, 77, 77}, 0},
		"jpeg":              {jpegOf(flat(9, color.NRGBA{200, 100, 50, 255})), [3]int{200, 100, 50}, 3},
		"bmp":               {bmpOf(flat(9, color.NRGBA{200, 100, 50, 255})), [3]int{200, 100, 50}, 0},
		"ppm":               {append([]byte("P6\n# made by hand\n9 9\n255\n"), bytes.Repeat([]byte{200, 100, 50}, 81)...), [3]int{200, 100, 50}, 0},
		"pgm":               {append([]byte("P5 9\t9 255\n"), bytes.Repeat([]byte{77}, 81)...), [3]int{77, 77, 77}, 0},
		"webp":              {webpPixel(), [3]int{255, 255, 255}, 255},
		"png of other size": {pngOf(t, flat(30, color.NRGBA{200, 100, 50, 255})), [3]int{200, 100, 50}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			// The extension does not matter, the content does.
			set := open(t, tree(t, map[string][]byte{"a/x.png": c.data, "b/x.jpg": c.data}), Train, 9)
			for i, v := range set.Pixels {
				if d := int(v) - c.want[i%3]; d > c.slack || -d > c.slack {
					t.Fatalf("value %d of channel %d, want %d", v, i%3, c.want[i%3])
				}
			}
		})
	}
}

// webpPixel is a lossless WebP image of one pixel.
func webpPixel() []byte {
	return []byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00")
}

func TestBadFolder(t *testing.T) {
	good := folderTree(t)
	change := func(name string, data []byte) map[string][]byte {
		return with(good, map[string][]byte{name: data})
	}
	testBad(t, 8, Limits{MaxFileBytes: 1 << 20, MaxClasses: 3}, []badCase{
		{"not an image", change("train/cat/b.png", []byte("hello, world")), "", "train/cat/b.png", "not a PNG"},
		{"empty file", change("train/cat/b.png", []byte{}), "", "train/cat/b.png", "file is empty"},
		{"cut off", change("train/cat/b.png", good["train/cat/b.png"][:60]), "", "train/cat/b.png", "not enough pixel data"},
		{"broken pixels", change("train/cat/b.png", append(slices.Clone(good["train/cat/b.png"][:50]), make([]byte, 200)...)), "", "train/cat/b.png", "corrupt input"},
		{"huge header", change("train/dog/c.png", hugePNG(100_000, 100_000)), "", "train/dog/c.png", "100000 × 100000 pixels"},
		{"tall header", change("train/dog/c.png", hugePNG(1, 60_000)), "", "train/dog/c.png", "side is over the limit"},
		{"many pixels", change("train/dog/c.png", hugePNG(30_000, 30_000)), "", "train/dog/c.png", "limit of 67108864 pixels"},
		{"ppm cut off", change("train/dog/c.png", ppmOf(2, 2, "P6 9 9 255 ")), "", "train/dog/c.png", "file ends too early"},
		{"ppm of 16 bits", change("train/dog/c.png", ppmOf(2, 2, "P6 2 2 65535 ")), "", "train/dog/c.png", "samples up to 65535"},
		{"ppm huge", change("train/dog/c.png", ppmOf(2, 2, "P6 30000 30000 255 ")), "", "train/dog/c.png", "limit of 67108864 pixels"},
		{"ppm without numbers", change("train/dog/c.png", []byte("P6 x")), "", "train/dog/c.png", "byte 0x78 where a number"},
		{"ppm long comment", change("train/dog/c.png", append([]byte("P6 #"), make([]byte, 5000)...)), "", "train/dog/c.png", "PPM header is over 4096 bytes"},
		{"ppm long number", change("train/dog/c.png", []byte("P6 123456789123456789 1 255 ")), "", "train/dog/c.png", "where a number"},
		{"no pixels", change("train/dog/c.png", hugePNG(0, 8)), "", "train/dog/c.png", "dimension"},
		{"file over limit", change("train/cat/b.png", make([]byte, 2<<20)), "", "train/cat/b.png", "over the limit"},
		{"one class", map[string][]byte{"train/cat/b.png": good["train/cat/b.png"]}, "", ".", "1 class"},
		{"test class", change("test/eel/a.png", good["test/cat/z.png"]), Test, "test/eel", "not in the training split"},
		{"folder in class", change("train/cat/more/a.png", good["test/cat/z.png"]), "", "train/cat/more", "folder inside of a class folder"},
		{"image beside classes", change("train/x.PNG", good["test/cat/z.png"]), "", "train/x.PNG", "outside of a class folder"},
		{"file not UTF-8", change("train/cat/\xff.png", good["test/cat/z.png"]), "", "train/cat/\xff.png", "not valid UTF-8"},
		{"class not UTF-8", change("train/\xff/a.png", good["test/cat/z.png"]), "", "train/\xff", "not valid UTF-8"},
		{"class with control", change("train/a\x1b/a.png", good["test/cat/z.png"]), "", "train/a\x1b", "control characters"},
		{"too many classes", with(good, map[string][]byte{"train/x/a": {}, "train/y/a": {}}), "", "train", "4 classes are over the limit"},
		{"nothing", map[string][]byte{"README.md": {}}, "", ".", "no class folders"},
		{"images at the top", map[string][]byte{"train/a.png": {}, "test/a.png": {}}, "", "train/a.png", "outside of a class folder"},
	})
}

// A hostile name cannot reach the terminal in an error.
func TestFormatErrorQuotesItsPath(t *testing.T) {
	for path, want := range map[string]string{
		"a b/日本.png":      "a b/日本.png: bad",
		"gnp.\u202egpj":   `"gnp.\u202egpj": bad`,
		"\x1b[31m":        `"\x1b[31m": bad`,
		"broken \xff.png": `"broken \xff.png": bad`,
	} {
		bad := FormatError{Path: path, Offset: -1, Reason: "bad"}
		if got := bad.Error(); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}

func TestFolderLimits(t *testing.T) {
	testBad(t, 8, Limits{MaxBytes: 3 * 8 * 8 * 3}, []badCase{
		{"memory", folderTree(t), "", ".", "4 images of 192 bytes are over the limit"},
	})
	testBad(t, 8, Limits{MaxSamples: 3}, []badCase{
		{"samples", folderTree(t), "", "train/dog", "over 3 images"},
	})
}

func TestFolderNeedsSize(t *testing.T) {
	if _, err := Open(context.Background(), tree(t, folderTree(t)), Train, Options{}); err == nil {
		t.Error("no error without a size")
	}
}

func TestEmptyClassFolder(t *testing.T) {
	dir := tree(t, folderTree(t))
	if err := os.Mkdir(filepath.Join(dir, "train", "eel"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir, Train, Options{Size: 8, SkipBad: true})
	wantFault(t, err, dir, "train/eel", "empty")
}

// Special files and links cannot be in a table of contents.
func TestFolderSpecialFiles(t *testing.T) {
	outside := tree(t, map[string][]byte{"secret.png": pngOf(t, textured(8, 9)), "class/a.png": pngOf(t, textured(8, 9))})
	link := func(target string) func(*testing.T, string) error {
		return func(_ *testing.T, path string) error { return os.Symlink(target, path) }
	}
	for name, c := range map[string]struct {
		make   func(t *testing.T, path string) error
		file   string
		reason string
	}{
		"link out":          {link(filepath.Join(outside, "secret.png")), "train/cat/l.png", "leaves the folder"},
		"relative link out": {link("../../../" + filepath.Base(outside) + "/secret.png"), "train/cat/l.png", "leaves the folder"},
		"link to nothing":   {link("no.png"), "train/cat/l.png", "does not exist"},
		"link to itself":    {link("l.png"), "train/cat/l.png", "too many"},
		"link to folder":    {link("../dog"), "train/cat/l", "folder inside of a class folder"},
		"class link out":    {link(filepath.Join(outside, "class")), "train/eel", "leaves the folder"},
		"pipe":              {func(_ *testing.T, p string) error { return syscall.Mkfifo(p, 0o644) }, "train/cat/p.png", "not a regular file"},
		"unreadable": {func(t *testing.T, p string) error {
			if os.Getuid() == 0 {
				t.Skip("root reads everything")
			}
			return os.WriteFile(p, []byte("x"), 0)
		}, "train/cat/u.png", "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, folderTree(t))
			if err := c.make(t, filepath.Join(dir, filepath.FromSlash(c.file))); err != nil {
				t.Fatal(err)
			}
			_, err := Open(context.Background(), dir, Train, Options{Size: 8})
			wantFault(t, err, dir, c.file, c.reason)
			set, err := Open(context.Background(), dir, Train, Options{Size: 8, SkipBad: true})
			if err != nil {
				t.Fatalf("with SkipBad: %v", err)
			}
			if set.Len() != 4 || len(set.Classes) != 2 || len(set.Skipped) != 1 {
				t.Errorf("%d images, classes %v, %d skipped", set.Len(), set.Classes, len(set.Skipped))
			}
		})
	}
}

func TestFolderLinkInside(t *testing.T) {
	dir := tree(t, folderTree(t))
	for link, target := range map[string]string{"train/cat/l.png": "../../test/cat/z.png", "train/eel": "../test/dog"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	set := open(t, dir, Train, 8)
	if set.Len() != 6 || !slices.Equal(set.Classes, []string{"cat", "dog", "eel"}) {
		t.Errorf("%d images in %v", set.Len(), set.Classes)
	}
}

func TestSkipBad(t *testing.T) {
	clean := folderTree(t)
	dir := tree(t, with(clean, map[string][]byte{
		"train/cat/aa.png": []byte("bad"),
		"train/dog/b.png":  hugePNG(100_000, 100_000),
	}))
	set, err := Open(context.Background(), dir, Train, Options{Size: 8, SkipBad: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := open(t, tree(t, clean), Train, 8); fingerprint(t, set) != fingerprint(t, want) || !slices.Equal(set.Files, want.Files) {
		t.Errorf("what is left differs: %v", set.Files)
	}
	if len(set.Skipped) != 2 || set.Skipped[0].Path != filepath.Join(dir, "train/cat/aa.png") {
		t.Errorf("skipped %v", set.Skipped)
	}
}

func TestSkipBadLeavesClassEmpty(t *testing.T) {
	dir := tree(t, with(folderTree(t), map[string][]byte{"train/cat/a.png": {}, "train/cat/b.png": {}}))
	_, err := Open(context.Background(), dir, Train, Options{Size: 8, SkipBad: true})
	wantFault(t, err, dir, ".", `class "cat" has no images in the training split; unreadable files: 2; `+filepath.Join(dir, "train/cat/a.png")+`: `)
}

// The scaler's memory grows with the height, whatever the width.
func TestTooHighToScale(t *testing.T) {
	high := map[string][]byte{"train/cat/a.png": pngOf(t, image.NewGray(image.Rect(0, 0, 1, 2000)))}
	dir := tree(t, with(folderTree(t), high))
	_, err := Open(context.Background(), dir, Train, Options{Size: 8, Limits: Limits{MaxPixels: 4*8*2000 - 1}})
	wantFault(t, err, dir, "train/cat/a.png", "image of 1 × 2000 pixels is too high to be scaled to 8 × 8")
	if _, err := Open(context.Background(), dir, Train, Options{Size: 8, Limits: Limits{MaxPixels: 4 * 8 * 2000}}); err != nil {
		t.Error(err)
	}
}

// In memory the default limits hold, in a store the disk's; given ones in both.
func TestStoreLimits(t *testing.T) {
	if got := (Options{}).limits(); got != DefaultLimits() {
		t.Errorf("without a store %v", got)
	}
	got := Options{Store: "store", Limits: Limits{MaxBytes: 7}}.limits()
	if got.MaxBytes != 7 || got.MaxFileBytes <= DefaultLimits().MaxBytes || got.MaxPixels != DefaultLimits().MaxPixels {
		t.Errorf("with a store %v", got)
	}
}

// The first bad file in order is reported, whatever finishes first.
func TestFirstBadFile(t *testing.T) {
	files := folderTree(t)
	files["train/cat/c.png"] = pngOf(t, textured(400, 1))[:5000]
	files["train/dog/a.png"] = []byte("bad")
	dir := tree(t, files)
	for range 10 {
		_, err := Open(context.Background(), dir, Train, Options{Size: 8})
		wantFault(t, err, dir, "train/cat/c.png", "not enough pixel data")
	}
}

func TestProgressAndCancel(t *testing.T) {
	dir := tree(t, folderTree(t))
	ctx, cancel := context.WithCancel(context.Background())
	var calls []int
	_, err := Open(ctx, dir, Train, Options{Size: 8, Progress: func(done, total int) {
		calls = append(calls, done)
		if total != 4 {
			t.Errorf("total %d", total)
		}
	}})
	if err != nil || !slices.Equal(calls, []int{1, 2, 3, 4}) {
		t.Errorf("calls %v, error %v", calls, err)
	}
	cancel()
	if _, err := Open(ctx, dir, Train, Options{Size: 8}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	add := func(data []byte) {
		f.Add(data, 5, 0, 0, 0, 0) // the whole image
		f.Add(data, 1, 1, 0, 4, 3)
		f.Add(data, 1000, -1, 2, 1<<31, 1<<31)
	}
	add(pngOf(f, textured(8, 1)))
	add(pngOf(f, flat(5, color.NRGBA64{1, 2, 3, 4})))
	add(hugePNG(100_000, 100_000))
	add(hugePNG(64, 64))
	add(webpPixel())
	add(ppmOf(2, 2, "P6 2 2 255 "))
	add(ppmOf(2, 2, "P5\n# grey\n2 2\n255\n"))
	add(ppmOf(2, 2, "P6 99999999 2 255 "))
	var b bytes.Buffer
	jpeg.Encode(&b, textured(9, 1), nil)
	add(bytes.Clone(b.Bytes()))
	b.Reset()
	bmp.Encode(&b, textured(6, 1))
	add(bytes.Clone(b.Bytes()))
	limits := Limits{MaxPixels: 1 << 16, MaxSide: 1 << 10}.orDefault()
	f.Fuzz(func(t *testing.T, data []byte, size, x1, y1, x2, y2 int) {
		size = 1 + size&1023
		r := bytes.NewReader(data)
		c, config, err := header(r, limits)
		if err == nil {
			if config.Width*config.Height > 1<<16 {
				t.Fatalf("%d × %d pixels passed the limit", config.Width, config.Height)
			}
			err = decodeRGB(make([]byte, size*size*3), size, image.Rect(x1, y1, x2, y2), c, r)
		}
		var bad *FormatError
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("%v is not a FormatError", err)
		}
	})
}
