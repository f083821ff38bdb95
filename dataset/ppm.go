package dataset

import (
	"bufio"
	"image"
	"image/color"
	"io"
)

// The binary Netpbm formats of 8 bits a sample: P6 (PPM, colour) and P5 (PGM,
// grey). The header is the magic, width, height and 255 with white space and
// comments between them, then one white space, then the samples.
const (
	ppmMaxHeader = 1 << 12
	ppmMaxNumber = 1 << 24
)

type ppmHeader struct {
	channels, width, height int
}

func ppmConfig(r io.Reader) (image.Config, error) {
	h, err := readPPMHeader(bufio.NewReader(r))
	if err != nil {
		return image.Config{}, err
	}
	model := color.RGBAModel
	if h.channels == 1 {
		model = color.GrayModel
	}
	return image.Config{ColorModel: model, Width: h.width, Height: h.height}, nil
}

func ppmDecode(r io.Reader) (image.Image, error) {
	in := bufio.NewReader(r)
	h, err := readPPMHeader(in)
	if err != nil {
		return nil, err
	}
	bounds := image.Rect(0, 0, h.width, h.height)
	if h.channels == 1 {
		img := image.NewGray(bounds)
		_, err := io.ReadFull(in, img.Pix)
		return img, err
	}
	img, row := image.NewRGBA(bounds), make([]byte, 3*h.width)
	for y := range h.height {
		if _, err := io.ReadFull(in, row); err != nil {
			return nil, err
		}
		out := img.Pix[y*img.Stride:]
		for x := range h.width {
			out[4*x], out[4*x+1], out[4*x+2], out[4*x+3] = row[3*x], row[3*x+1], row[3*x+2], 255
		}
	}
	return img, nil
}

func readPPMHeader(r *bufio.Reader) (ppmHeader, error) {
	in := &ppmScanner{r: r}
	in.next()
	h := ppmHeader{channels: 3}
	if in.next() == '5' {
		h.channels = 1
	}
	h.width, h.height = in.number(), in.number()
	if highest := in.number(); in.err == nil && highest != 255 {
		return h, fault(-1, "PPM with samples up to %d: only 255 is read", highest)
	}
	return h, in.err
}

// ppmScanner reads a header. The first error stays.
type ppmScanner struct {
	r    *bufio.Reader
	read int
	err  error
}

// next returns the next byte, 0 after an error.
func (s *ppmScanner) next() byte {
	if s.read++; s.read > ppmMaxHeader && s.err == nil {
		s.err = fault(-1, "PPM header is over %d bytes", ppmMaxHeader)
	}
	if s.err != nil {
		return 0
	}
	var b byte
	b, s.err = s.r.ReadByte()
	return b
}

// number reads white space and comments, then digits and the one white space
// that ends them.
func (s *ppmScanner) number() int {
	b := s.next()
	for isPPMSpace(b) || b == '#' {
		if b == '#' {
			s.comment()
		}
		b = s.next()
	}
	value := 0
	for ; b >= '0' && b <= '9' && value < ppmMaxNumber; b = s.next() {
		value = 10*value + int(b-'0')
	}
	if !isPPMSpace(b) && s.err == nil {
		s.err = fault(int64(s.read-1), "PPM header has byte %#02x where a number or white space belongs", b)
	}
	return value
}

func (s *ppmScanner) comment() {
	for b := s.next(); b != '\n' && b != '\r' && s.err == nil; b = s.next() {
	}
}

func isPPMSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }
