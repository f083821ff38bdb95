package dataset

// Limits bounds what a reader accepts, because inputs are hostile. A zero
// field takes its value from DefaultLimits.
type Limits struct {
	// MaxFileBytes is the size of one file, and of its content once unpacked. With
	// a store the disk is the limit unless one is given.
	MaxFileBytes int64
	// MaxPixels is width × height of one image as its header states it. It
	// also bounds the pixels of all images being decoded at one time.
	MaxPixels int64
	// MaxSide is the longer side of an image, in pixels.
	MaxSide int
	// MaxSamples and MaxClasses are the sizes of a split.
	MaxSamples, MaxClasses int
	// MaxBytes is the memory for all pixels of a split. With a store the disk is
	// the limit unless one is given.
	MaxBytes int64
}

// maxStored is more than the disks of a workstation hold, in bytes.
const maxStored = 1 << 50

// DefaultLimits returns limits that fit common image sets on a workstation:
// files of 4 GiB, images of 64 megapixels and 32,768 pixels a side, 16 million
// samples, 32,768 classes, 16 GiB of pixels.
func DefaultLimits() Limits {
	return Limits{
		MaxFileBytes: 4 << 30,
		MaxPixels:    64 << 20,
		MaxSide:      1 << 15,
		MaxSamples:   16 << 20,
		MaxClasses:   1 << 15,
		MaxBytes:     16 << 30,
	}
}

// orDefault fills the zero fields.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		MaxFileBytes: either(l.MaxFileBytes, d.MaxFileBytes),
		MaxPixels:    either(l.MaxPixels, d.MaxPixels),
		MaxSide:      either(l.MaxSide, d.MaxSide),
		MaxSamples:   either(l.MaxSamples, d.MaxSamples),
		MaxClasses:   either(l.MaxClasses, d.MaxClasses),
		MaxBytes:     either(l.MaxBytes, d.MaxBytes),
	}
}

func either[T int | int64](value, otherwise T) T {
	if value != 0 {
		return value
	}
	return otherwise
}

// limits fills the zero fields of the limits.
func (o Options) limits() Limits {
	l := o.Limits
	if o.Store != "" {
		l.MaxFileBytes = either(l.MaxFileBytes, maxStored)
		l.MaxBytes = either(l.MaxBytes, maxStored)
	}
	return l.orDefault()
}

// checkImage refuses an image by the size its header states.
func (l Limits) checkImage(width, height int) error {
	switch {
	case width <= 0 || height <= 0:
		return fault(-1, "image of %d × %d pixels has no pixels", width, height)
	case width > l.MaxSide || height > l.MaxSide:
		return fault(-1, "image of %d × %d pixels: a side is over the limit of %d", width, height, l.MaxSide)
	case int64(width)*int64(height) > l.MaxPixels:
		return fault(-1, "image of %d × %d pixels is over the limit of %d pixels", width, height, l.MaxPixels)
	}
	return nil
}

// checkBlock refuses n images of imageBytes bytes each before memory is taken
// for them.
func (l Limits) checkBlock(n, imageBytes int64) error {
	switch {
	case n > int64(l.MaxSamples):
		return fault(-1, "%d images are over the limit of %d", n, l.MaxSamples)
	case imageBytes > 0 && n > l.MaxBytes/imageBytes:
		return fault(-1, "%d images of %d bytes are over the limit of %d bytes", n, imageBytes, l.MaxBytes)
	}
	return nil
}
