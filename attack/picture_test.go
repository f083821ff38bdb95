package attack

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// picture writes a PNG of a formula's samples, with that opacity.
func picture(t testing.TB, shape Shape, pixels []byte, opacity func(i int) byte) string {
	t.Helper()
	canvas := image.NewNRGBA(image.Rect(0, 0, shape.Width, shape.Height))
	for i := range shape.Height * shape.Width {
		c := color.NRGBA{pixels[i*shape.Channels], pixels[i*shape.Channels], pixels[i*shape.Channels], opacity(i)}
		if shape.Channels == 3 {
			c.G, c.B = pixels[i*3+1], pixels[i*3+2]
		}
		canvas.SetNRGBA(i%shape.Width, i/shape.Width, c)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "picture.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := png.Encode(file, canvas); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

func opaque(int) byte { return 255 }

func TestPictureIsPinned(t *testing.T) {
	shape := Shape{8, 8, 1}
	path := picture(t, shape, formula(shape, 3, 1), opaque)
	var p, again Picture
	if err := p.Set(path); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(p.String(), path+"@sha256:") {
		t.Errorf("text %q does not pin the file", p.String())
	}
	if err := again.Set(p.String()); err != nil {
		t.Errorf("own text is refused: %v", err)
	}
	if err := os.Rename(picture(t, shape, formula(shape, 5, 1), opaque), path); err != nil {
		t.Fatal(err)
	}
	if err := again.Set(p.String()); err == nil || !strings.Contains(err.Error(), "not the file it was") {
		t.Errorf("a changed file: %v", err)
	}
	if err := p.Set(""); err != nil || p.String() != "" {
		t.Errorf("no picture is %q, %v", p.String(), err)
	}
}

func TestPictureErrors(t *testing.T) {
	shape := Shape{8, 8, 3}
	path := picture(t, shape, formula(shape, 3, 1), func(i int) byte { return byte(i) })
	empty := picture(t, shape, formula(shape, 3, 1), func(int) byte { return 0 })
	text := filepath.Join(t.TempDir(), "text.png")
	if err := os.WriteFile(text, []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		attack Attack
		params map[string]string
		shape  Shape
		want   string
	}{
		{DefaultCustom(), nil, shape, "custom: image: a PNG file is needed"},
		{DefaultCustom(), map[string]string{"image": "no/such.png"}, shape, "no/such.png"},
		{DefaultCustom(), map[string]string{"image": filepath.Dir(path)}, shape, "not a regular file"},
		{DefaultCustom(), map[string]string{"image": text}, shape, "not a PNG file"},
		{DefaultCustom(), map[string]string{"image": path}, Shape{8, 9, 3}, "is 8×8 pixels, the images are 8×9"},
		{DefaultCustom(), map[string]string{"image": path, "mask": text}, shape, "custom: mask: " + text},
		{DefaultCustom(), map[string]string{"image": path, "opacity": "1.1"}, shape, "opacity 1.1"},
		{DefaultCustom(), map[string]string{"image": path, "opacity": "NaN"}, shape, "opacity"},
		{DefaultCustom(), map[string]string{"image": empty}, shape, "transparent everywhere"},
		{DefaultBlend(), map[string]string{"pattern": "image"}, shape, "need each other"},
		{DefaultBlend(), map[string]string{"image": path}, shape, "need each other"},
		{DefaultBlend(), map[string]string{"pattern": "image", "image": path}, shape, "transparent in places"},
	} {
		err := Configure(c.attack, c.params)
		if err == nil {
			_, err = c.attack.Trigger(c.shape)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: error %v, want one with %q", c.attack.Name(), c.params, err, c.want)
		}
	}
}

// TestPictureColours: colours become grey, grey becomes colours.
func TestPictureColours(t *testing.T) {
	var p Picture
	if err := p.Set(picture(t, Shape{1, 2, 3}, []byte{255, 0, 0, 10, 10, 10}, opaque)); err != nil {
		t.Fatal(err)
	}
	grey, _, err := p.decode(Shape{1, 2, 1})
	if err != nil || grey[0] != 76 || grey[1] != 10 {
		t.Errorf("red and grey are %v, %v, want 76 and 10", grey, err)
	}
	if err := p.Set(picture(t, Shape{1, 1, 1}, []byte{7}, opaque)); err != nil {
		t.Fatal(err)
	}
	if colour, _, err := p.decode(Shape{1, 1, 3}); err != nil || string(colour) != "\a\a\a" {
		t.Errorf("grey 7 is %v, %v", colour, err)
	}
}

func FuzzPicture(f *testing.F) {
	file, err := os.ReadFile(picture(f, Shape{2, 2, 3}, formula(Shape{2, 2, 3}, 3, 1), opaque))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(file[:len(file)-9])
	f.Add([]byte("\x89PNG\r\n\x1a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := Picture{path: "x.png", data: data}
		pixels, opacity, err := p.decode(Shape{2, 2, 3})
		if err == nil && (len(pixels) != 12 || len(opacity) != 4) {
			t.Errorf("%d samples and %d opacities of 2×2 pixels", len(pixels), len(opacity))
		}
	})
}
