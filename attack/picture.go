package attack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"

	"cordon/internal/regular"
)

// maxPictureBytes bounds the file of a Picture.
const maxPictureBytes = 64 << 20

// Picture is a PNG file that a trigger is made from. As text it is the path and
// the SHA-256 of the file, so that a truth file rebuilds the same trigger or
// none. The zero Picture, the empty text, is none.
type Picture struct {
	path, sum string
	data      []byte
}

// pictureMark stands between the path and the sum.
const pictureMark = "@sha256:"

// Set reads the file that text names. Where text has a sum, another content is
// an error.
func (p *Picture) Set(text string) error {
	if text == "" {
		*p = Picture{}
		return nil
	}
	path, want := text, ""
	if at := strings.LastIndex(text, pictureMark); at >= 0 {
		path, want = text[:at], text[at+len(pictureMark):]
	}
	data, err := readPicture(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	p.path, p.sum, p.data = path, hex.EncodeToString(sum[:]), data
	if want != "" && want != p.sum {
		return fmt.Errorf("%s is not the file it was: its SHA-256 is %s", path, p.sum)
	}
	return nil
}

// String returns PATH@sha256:SUM, or "" for none.
func (p *Picture) String() string {
	if p.path == "" {
		return ""
	}
	return p.path + pictureMark + p.sum
}

func readPicture(path string) ([]byte, error) {
	file, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxPictureBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPictureBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxPictureBytes)
	}
	return data, nil
}

// decode returns the picture's samples for images of one shape, whose size it
// must have, and the opacity of each pixel, 0…255. Colours are made grey for
// grey images (ITU-R BT.601); grey is repeated for colour ones.
func (p *Picture) decode(shape Shape) (pixels, opacity []byte, err error) {
	if p.path == "" {
		return nil, nil, errors.New("a PNG file is needed")
	}
	config, err := png.DecodeConfig(bytes.NewReader(p.data))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: not a PNG file: %w", p.path, err)
	}
	if config.Width != shape.Width || config.Height != shape.Height {
		return nil, nil, fmt.Errorf("%s is %d×%d pixels, the images are %d×%d",
			p.path, config.Height, config.Width, shape.Height, shape.Width)
	}
	decoded, err := png.Decode(bytes.NewReader(p.data))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.path, err)
	}
	pixels, opacity = split(decoded, shape.Channels)
	return pixels, opacity, nil
}

// split separates colours from opacity.
func split(decoded image.Image, channels int) (pixels, opacity []byte) {
	box := decoded.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			c := color.NRGBAModel.Convert(decoded.At(x, y)).(color.NRGBA)
			opacity = append(opacity, c.A)
			c.A = 255
			if channels == 1 {
				pixels = append(pixels, color.GrayModel.Convert(c).(color.Gray).Y)
			} else {
				pixels = append(pixels, c.R, c.G, c.B)
			}
		}
	}
	return pixels, opacity
}
