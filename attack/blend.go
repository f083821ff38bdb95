package attack

import (
	"flag"
	"fmt"
	"slices"

	"cordon/internal/seed"
)

// Blend mixes one fixed pattern into the whole image: x′ = (1−α)x + αp
// (Chen et al. 2017, "Targeted backdoor attacks on deep learning systems using
// data poisoning"; Blend in table 2).
type Blend struct {
	Alpha float64 // share of the pattern, above 0 and at most 1
	// Pattern is "blocks", a 4×4 grid of random saturated colours (black and
	// white in grey images), "noise", an independent uniform value per sample,
	// or "image", the file Image.
	Pattern string
	Image   Picture // opaque, of the size of the images; only for the pattern "image"
	// Missing is how many of the pattern's 4×4 pieces an image lacks, others in
	// each image, 0 to 15 (Qi et al. 2023, "Revisiting the assumption of latent
	// separability for backdoor defenses", adaptive Blend).
	Missing int
	// Seed draws the pattern and the missing pieces. It is the attack's own:
	// training and test images carry the same pattern whatever seed chose the
	// poisoned samples.
	Seed uint64
}

// DefaultBlend returns colour blocks at α = .2: independent noise hardly
// implants at low rates.
func DefaultBlend() *Blend { return &Blend{Alpha: .2, Pattern: "blocks"} }

// Name returns "blend".
func (b *Blend) Name() string { return "blend" }

// Summary describes the trigger.
func (b *Blend) Summary() string {
	return "a fixed pattern mixed into the whole image (Chen et al. 2017)"
}

// Mode returns CleanLabel.
func (b *Blend) Mode() LabelMode { return CleanLabel }

// Params declares alpha, pattern, image, missing and seed.
func (b *Blend) Params(fs *flag.FlagSet) {
	fs.Float64Var(&b.Alpha, "alpha", b.Alpha, "share of the pattern, above 0 and at most 1")
	fs.StringVar(&b.Pattern, "pattern", b.Pattern, "blocks (4×4 saturated colours), noise or image")
	fs.Var(&b.Image, "image", "PNG file of the size of the images, for the pattern image")
	fs.IntVar(&b.Missing, "missing", b.Missing, "how many of 4×4 pieces each image lacks, 0 to 15")
	fs.Uint64Var(&b.Seed, "seed", b.Seed, "draws the pattern")
}

// Validate refuses a share outside (0, 1], unknown patterns, an image file that
// is missing or not used, and a pattern without pieces.
func (b *Blend) Validate() error {
	if !(b.Alpha > 0 && b.Alpha <= 1) { // NaN too
		return fmt.Errorf("blend: alpha %v: must be above 0 and at most 1", b.Alpha)
	}
	if b.Missing < 0 || b.Missing >= blockGrid*blockGrid {
		return fmt.Errorf("blend: missing %d: must be 0 to %d", b.Missing, blockGrid*blockGrid-1)
	}
	if (b.Pattern == "image") != (b.Image.path != "") {
		return fmt.Errorf("blend: pattern %s with image %q: the pattern image and an image file need each other", b.Pattern, b.Image.path)
	}
	return oneOf("blend: pattern", b.Pattern, "blocks", "noise", "image")
}

// Trigger draws the pattern for images of one shape.
func (b *Blend) Trigger(shape Shape) (Trigger, error) {
	if err := validate(b, shape); err != nil {
		return nil, err
	}
	pattern, err := b.pattern(shape)
	if err != nil {
		return nil, fmt.Errorf("blend: %w", err)
	}
	return blend{shape, b.Alpha, pattern, b.Missing, b.Seed}, nil
}

func (b *Blend) pattern(shape Shape) ([]byte, error) {
	inBlocks := b.Pattern == "blocks" || b.Missing > 0
	if inBlocks && min(shape.Height, shape.Width) < blockGrid {
		return nil, fmt.Errorf("a grid of %d×%d blocks does not fit images of %d×%d pixels",
			blockGrid, blockGrid, shape.Height, shape.Width)
	}
	switch b.Pattern {
	case "noise":
		return noisePattern(shape, b.Seed), nil
	case "image":
		return imagePattern(shape, &b.Image)
	}
	return blockPattern(shape, drawHues(b.Seed)), nil
}

// imagePattern refuses transparency, which Custom has a use for.
func imagePattern(shape Shape, p *Picture) ([]byte, error) {
	pattern, opacity, err := p.decode(shape)
	if err != nil {
		return nil, err
	}
	if slices.Min(opacity) < 255 {
		return nil, fmt.Errorf("%s is transparent in places: use the attack custom", p.path)
	}
	return pattern, nil
}

// blend is the trigger of Blend.
type blend struct {
	shape   Shape
	alpha   float64
	pattern []byte
	missing int
	seed    uint64
}

func (b blend) Shape() Shape { return b.shape }

func (b blend) Apply(dst, src []byte, index int) {
	b.mix(dst, src, b.missingPieces(index))
}

// missingPieces draws the pieces that an image lacks.
func (b blend) missingPieces(index int) []int {
	if b.missing == 0 {
		return nil
	}
	return seed.Stream(b.seed, "blend/missing", uint64(index)).Perm(blockGrid * blockGrid)[:b.missing]
}

// mix blends all pieces of the pattern in but the missing ones.
func (b blend) mix(dst, src []byte, missing []int) {
	for i, p := range b.pattern {
		dst[i] = toByte((1-b.alpha)*float64(src[i]) + b.alpha*float64(p))
	}
	for _, piece := range missing {
		top, bottom := blockSpan(piece/blockGrid, b.shape.Height)
		left, right := blockSpan(piece%blockGrid, b.shape.Width)
		for y := top; y < bottom; y++ {
			from, to := (y*b.shape.Width+left)*b.shape.Channels, (y*b.shape.Width+right)*b.shape.Channels
			copy(dst[from:to], src[from:to])
		}
	}
}

// blockSpan returns the first pixel of row or column k of the grid, and that
// after its last: those with ⌊4·pixel/side⌋ = k.
func blockSpan(k, side int) (first, end int) {
	return (k*side + blockGrid - 1) / blockGrid, ((k+1)*side + blockGrid - 1) / blockGrid
}

func noisePattern(shape Shape, s uint64) []byte {
	random := seed.Stream(s, "blend/noise")
	pattern := make([]byte, shape.Bytes())
	for i := range pattern {
		pattern[i] = byte(random.IntN(256))
	}
	return pattern
}

const (
	blockGrid = 4       // blocks per side
	hues      = 6 * 255 // saturated 8-bit colours around the hue circle, red first
)

// drawHues draws the hue of each block, row by row.
func drawHues(s uint64) [blockGrid * blockGrid]int {
	random := seed.Stream(s, "blend/blocks")
	var drawn [blockGrid * blockGrid]int
	for i := range drawn {
		drawn[i] = random.IntN(hues)
	}
	return drawn
}

// blockPattern paints the grid: pixel (y, x) lies in block (⌊4y/H⌋, ⌊4x/W⌋).
func blockPattern(shape Shape, drawn [blockGrid * blockGrid]int) []byte {
	pattern := make([]byte, 0, shape.Bytes())
	for y := range shape.Height {
		for x := range shape.Width {
			hue := drawn[y*blockGrid/shape.Height*blockGrid+x*blockGrid/shape.Width]
			pattern = append(pattern, colour(hue, shape.Channels)...)
		}
	}
	return pattern
}

// colour returns the saturated colour of a hue. A grey image has two saturated
// values: the hues from red to cyan are white, the others black.
func colour(hue, channels int) []byte {
	if channels == 1 {
		if hue < hues/2 {
			return []byte{255}
		}
		return []byte{0}
	}
	// A channel is full within one sixth of the circle of its hue (red 0,
	// green 1/3, blue 2/3), empty beyond two sixths, linear between.
	rgb := make([]byte, 3)
	for c := range rgb {
		away := (hue - c*hues/3 + hues) % hues
		away = min(away, hues-away)
		rgb[c] = byte(min(max(2*255-away, 0), 255))
	}
	return rgb
}
