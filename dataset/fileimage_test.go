package dataset

import (
	"context"
	"image"
	"testing"
)

func images(t *testing.T, files map[string][]byte) []FileImage {
	t.Helper()
	dir := tree(t, files)
	out, err := FileImages(context.Background(), dir, open(t, dir, Train, 4), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// FileImages are told apart where the images as read are not, and equal pixels
// count as equal whatever the file.
func TestFileImages(t *testing.T) {
	grey := image.NewGray(image.Rect(0, 0, 8, 6))
	for i := range grey.Pix {
		grey.Pix[i] = byte(5 * i)
	}
	colour := image.NewNRGBA(grey.Rect)
	for i, v := range grey.Pix {
		copy(colour.Pix[4*i:], []byte{v, v, v, 255})
	}
	longer := append(pngOf(t, grey), "trailing"...)
	other := image.NewGray(grey.Rect)
	copy(other.Pix, grey.Pix)
	other.Pix[0]++
	got := images(t, map[string][]byte{
		"train/a/1.png": pngOf(t, grey),
		"train/a/2.png": pngOf(t, colour),
		"train/a/3.png": longer,
		"train/b/4.png": pngOf(t, other),
		"train/b/5.png": pngOf(t, flat(6, image.White)),
	})
	if got[0].Width != 8 || got[0].Height != 6 || got[4].Width != 6 {
		t.Errorf("sizes %v", got)
	}
	if got[0] != got[1] || got[0] != got[2] {
		t.Error("equal pixels count as different")
	}
	if got[0] == got[3] || got[3] == got[4] {
		t.Error("different pixels count as equal")
	}
}

func TestFileImagesErrors(t *testing.T) {
	files := folderTree(t)
	dir := tree(t, files)
	set := open(t, dir, Train, 4)
	set.Files[1] = "train/cat/gone.png"
	_, err := FileImages(context.Background(), dir, set, Options{})
	wantFault(t, err, dir, "train/cat/gone.png", "cannot be read")

	idx := tree(t, idxTree())
	if got, err := FileImages(context.Background(), idx, open(t, idx, Train, 0), Options{}); got != nil || err != nil {
		t.Errorf("a set without files: %v, %v", got, err)
	}
}
