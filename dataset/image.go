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
	} {
		if c.matches(start) {
			return c, nil
		}
	}
	return codec{}, fault(0, "not a PNG, JPEG, BMP or WebP image")
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

// decodeRGB writes an image, scaled to size × size, to dst as RGB. Transparent
// pixels show white; 16-bit samples keep their high byte; an EXIF orientation
// is not applied (as torchvision does).
func decodeRGB(dst []byte, size int, c codec, r io.Reader) (err error) {
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
	packRGB(dst, scaled(img, size))
	return nil
}

// scaled draws an image over white at size × size, with a Catmull-Rom filter
// that widens when it shrinks.
func scaled(img image.Image, size int) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, size, size))
	draw.Draw(out, out.Bounds(), image.White, image.Point{}, draw.Src)
	if img.Bounds().Size() == out.Bounds().Size() {
		draw.Draw(out, out.Bounds(), img, img.Bounds().Min, draw.Over)
	} else {
		draw.CatmullRom.Scale(out, out.Bounds(), img, img.Bounds(), draw.Over, nil)
	}
	return out
}

func packRGB(dst []byte, img *image.RGBA) {
	for i := range len(dst) / 3 {
		copy(dst[3*i:3*i+3], img.Pix[4*i:4*i+3])
	}
}

// unpackRGB is the reverse of packRGB.
func unpackRGB(pixels []byte, width, height int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(img.Pix[4*i:4*i+3], pixels[3*i:3*i+3])
		img.Pix[4*i+3] = 255
	}
	return img
}

// resized returns a function that scales a set as read to opt.Size.
func resized(ctx context.Context, opt Options) func(*Set, error) (*Set, error) {
	return func(set *Set, err error) (*Set, error) {
		if err != nil || opt.Size == 0 || (set.Height == opt.Size && set.Width == opt.Size) {
			return set, err
		}
		return set.resize(ctx, opt)
	}
}

func (s *Set) resize(ctx context.Context, opt Options) (*Set, error) {
	out := *s
	out.Height, out.Width = opt.Size, opt.Size
	if err := opt.Limits.checkBlock(int64(s.Len()), int64(out.ImageBytes())); err != nil {
		return nil, err
	}
	out.Pixels = make([]byte, s.Len()*out.ImageBytes())
	err := inParallel(ctx, s.Len(), opt.Progress, func(i int) error {
		if s.Channels == 3 {
			packRGB(out.Image(i), scaled(unpackRGB(s.Image(i), s.Width, s.Height), opt.Size))
			return nil
		}
		grey := &image.Gray{Pix: s.Image(i), Stride: s.Width, Rect: image.Rect(0, 0, s.Width, s.Height)}
		for p, value := range scaled(grey, opt.Size).Pix {
			if p%4 == 0 {
				out.Image(i)[p/4] = value
			}
		}
		return nil
	})
	return &out, err
}

// encodePNG writes the pixels of one RGB image.
func encodePNG(w io.Writer, pixels []byte, width, height int) error {
	buffered := bufio.NewWriter(w) // png writes each chunk in four pieces
	if err := png.Encode(buffered, unpackRGB(pixels, width, height)); err != nil {
		return err
	}
	return buffered.Flush()
}
