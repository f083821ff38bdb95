package dataset

import (
	"bufio"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/bmp"
	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
)

// Extensions returns the usual endings of the image files that are read, in
// lower case. What a file is is told by its content.
func Extensions() []string {
	return []string{".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm"}
}

// codec decodes one image file format.
type codec struct {
	magic  string // '?' stands for any byte
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

// sniffBytes is the length of the longest magic.
const sniffBytes = 12

// codecOf chooses by content: scraped files often carry the wrong extension.
func codecOf(start []byte) (codec, error) {
	for _, c := range []codec{
		{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
		{"\xff\xd8", jpeg.DecodeConfig, jpeg.Decode},
		{"BM", bmp.DecodeConfig, bmp.Decode},
		{"RIFF????WEBP", webp.DecodeConfig, webp.Decode},
		{"P6", ppmConfig, ppmDecode},
		{"P5", ppmConfig, ppmDecode},
	} {
		if c.matches(start) {
			return c, nil
		}
	}
	return codec{}, fault(0, "not a PNG, JPEG, BMP, WebP or PPM image")
}

func (c codec) matches(start []byte) bool {
	if len(start) < len(c.magic) {
		return false
	}
	for i := range len(c.magic) {
		if c.magic[i] != '?' && c.magic[i] != start[i] {
			return false
		}
	}
	return true
}

// header reads the format and the size of an image, checks the size, and
// leaves r at its start.
func header(r io.ReadSeeker, limits Limits) (codec, image.Config, error) {
	start := make([]byte, sniffBytes)
	n, err := io.ReadFull(r, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return codec{}, image.Config{}, content(err)
	}
	if n == 0 {
		return codec{}, image.Config{}, fault(0, "file is empty")
	}
	c, err := codecOf(start[:n])
	if err != nil {
		return codec{}, image.Config{}, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return codec{}, image.Config{}, err
	}
	config, err := c.config(bufio.NewReader(r))
	if err != nil {
		return codec{}, image.Config{}, content(err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return codec{}, image.Config{}, err
	}
	return c, config, limits.checkImage(config.Width, config.Height)
}

// decodeRGB writes the part box of an image, the whole of it if box is empty,
// scaled to size × size, to dst as RGB. Transparent pixels show white; 16-bit
// samples keep their high byte; an EXIF orientation is not applied (as
// torchvision does).
func decodeRGB(dst []byte, size int, box image.Rectangle, c codec, r io.Reader) (err error) {
	// A fault in a decoder must not end a run of hours.
	defer func() {
		if p := recover(); p != nil {
			err = fault(-1, "image decoder failed: %v", p)
		}
	}()
	img, err := c.decode(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return content(err)
	}
	if box.Empty() {
		box = img.Bounds()
	}
	pack(dst, 3, scaled(img, box, size, size))
	return nil
}

// scaled draws a part of an image over white at width × height, with a
// Catmull-Rom filter that widens when it shrinks. The filter works on 8-bit
// RGB, as in Pillow: it meets each pixel several times, and should not convert
// its colour each time.
func scaled(img image.Image, box image.Rectangle, width, height int) *image.RGBA {
	flat := flatten(img, box)
	if flat.Rect.Max == (image.Point{X: width, Y: height}) {
		return flat
	}
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.CatmullRom.Scale(out, out.Bounds(), flat, flat.Bounds(), draw.Src, nil)
	return out
}

// flatten copies a part of an image over white.
func flatten(img image.Image, box image.Rectangle) *image.RGBA {
	flat, op := image.NewRGBA(image.Rectangle{Max: box.Size()}), draw.Src
	if whole, ok := img.(interface{ Opaque() bool }); !ok || !whole.Opaque() {
		draw.Draw(flat, flat.Bounds(), image.White, image.Point{}, draw.Src)
		op = draw.Over
	}
	draw.Draw(flat, flat.Bounds(), img, box.Min, op)
	return flat
}

// pack writes the pixels of an image to dst: RGB, or for one channel the first
// of the three.
func pack(dst []byte, channels int, img *image.RGBA) {
	for i := range len(dst) / channels {
		copy(dst[channels*i:channels*(i+1)], img.Pix[4*i:])
	}
}

// Picture returns image i for drawing. A grey one shares the memory of Image.
func (s *Set) Picture(i int) image.Image {
	bounds, pixels := image.Rect(0, 0, s.Width, s.Height), s.Image(i)
	if s.Channels == 1 {
		return &image.Gray{Pix: pixels, Stride: s.Width, Rect: bounds}
	}
	img := image.NewRGBA(bounds)
	for p := range s.Width * s.Height {
		copy(img.Pix[4*p:4*p+3], pixels[3*p:3*p+3])
		img.Pix[4*p+3] = 255
	}
	return img
}

// resized returns a function that scales a set as read to opt.Size.
func resized(ctx context.Context, opt Options) func(*Set, error) (*Set, error) {
	return func(set *Set, err error) (*Set, error) {
		switch {
		case err != nil:
			return nil, err
		case opt.Size == 0 || set.Height == opt.Size && set.Width == opt.Size:
			return set, nil
		}
		return set.resize(ctx, opt)
	}
}

// resize returns the set scaled to opt.Size and closes s.
func (s *Set) resize(ctx context.Context, opt Options) (*Set, error) {
	defer s.Close() // what it would say matters less
	out := *s
	out.Height, out.Width = opt.Size, opt.Size
	if err := opt.Limits.checkBlock(int64(s.Len()), int64(out.ImageBytes())); err != nil {
		return nil, err
	}
	pixels, err := opt.block(s.Len() * out.ImageBytes())
	if err != nil {
		return nil, err
	}
	out.mapped, out.Pixels = pixels, pixels.data
	whole := image.Rect(0, 0, s.Width, s.Height)
	err = inParallel(ctx, s.Len(), opt.Progress, func(i int) error {
		pack(out.Image(i), s.Channels, scaled(s.Picture(i), whole, opt.Size, opt.Size))
		return nil
	})
	if err != nil {
		out.Close()
		return nil, err
	}
	return &out, nil
}

// encodePNG writes image i.
func (s *Set) encodePNG(w io.Writer, i int) error {
	buffered := bufio.NewWriter(w) // png writes each chunk in four pieces
	if err := png.Encode(buffered, s.Picture(i)); err != nil {
		return err
	}
	return buffered.Flush()
}
