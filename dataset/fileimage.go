package dataset

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"golang.org/x/sync/semaphore"
)

// FileImage is an image as its file holds it, before it was resized.
type FileImage struct {
	Width, Height int
	// Digest is the SHA-256 of the size and the decoded pixels (RGB over white,
	// as Open decodes): equal for equal pictures, whatever their files differ in.
	Digest [sha256.Size]byte
}

// FileImages decodes the file of every image of s again, at its own size. s was
// read from the folder dir and has Files; a format without them keeps its
// images at their own size, and the result is nil. Of opt it takes Limits and
// Progress.
func FileImages(ctx context.Context, dir string, s *Set, opt Options) ([]FileImage, error) {
	if s.Files == nil {
		return nil, nil
	}
	root, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	src := &source{root: root, dir: dir, limits: opt.Limits.orDefault()}
	images := make([]FileImage, s.Len())
	memory := semaphore.NewWeighted(src.limits.MaxPixels) // see decodeAll
	err = inParallel(ctx, s.Len(), opt.Progress, func(i int) (err error) {
		images[i], err = src.fileImage(ctx, s.Files[i], memory)
		return err
	})
	return images, err
}

func (s *source) fileImage(ctx context.Context, name string, memory *semaphore.Weighted) (FileImage, error) {
	f, _, err := s.open(name)
	if err != nil {
		return FileImage{}, err
	}
	defer f.Close()
	c, config, err := header(f, s.limits)
	if err != nil {
		return FileImage{}, s.locate(name, err)
	}
	weight := int64(config.Width) * int64(config.Height)
	if err := memory.Acquire(ctx, weight); err != nil {
		return FileImage{}, err
	}
	defer memory.Release(weight)
	decoded, err := digest(c, f)
	return decoded, s.locate(name, err)
}

// digest decodes an image and sums it up.
func digest(c codec, r io.Reader) (o FileImage, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault(-1, "image decoder failed: %v", p)
		}
	}()
	img, err := c.decode(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return FileImage{}, content(err)
	}
	flat := flatten(img, img.Bounds())
	size := flat.Rect.Max
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(size.X)))
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(size.Y)))
	h.Write(flat.Pix)
	o = FileImage{Width: size.X, Height: size.Y}
	h.Sum(o.Digest[:0])
	return o, nil
}
