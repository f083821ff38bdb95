package inspect

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"sync"

	"github.com/corona10/goimagehash"

	"cordon/dataset"
)

// Near copies are found in two steps. A perceptual hash of 64 bits (whether
// brightness rises or falls from cell to cell of a 9 × 8 grid) proposes pairs
// that differ in maxBits at most; thumbnails then confirm that the pictures
// differ in brightness by a small part of their contrast.
const (
	bands    = 8
	bandBits = 64 / bands
	maxBits  = bands - 1   // two such hashes are equal in one band at least
	side     = 16          // of a thumbnail, in pixels
	cells    = side * side // of a thumbnail
	// nearShare is the mean difference of two near copies, as a share of the
	// mean deviation from their own mean. docs/adr/0015 has what it finds.
	nearShare = 0.1
	// minContrast is the mean deviation, in 255ths, below which a picture is
	// flat and nothing can be said of it.
	minContrast = 2
	// maxCompared bounds the work on crowds of like images: each is compared
	// with so many that share a band.
	maxCompared = 4096
)

// Near holds the images that are almost equal but not equal. Of exact copies
// only the first takes part.
type Near struct {
	Images int     `json:"images"` // in all groups together
	Groups []Group `json:"groups"`
	// Complete is false if so many images are alike that not all pairs were
	// compared; there may be more near copies then.
	Complete bool `json:"complete"`
}

// sketch is what is left of a picture for the search.
type sketch struct {
	hash     uint64
	contrast int // sum over the thumbnail of |cell - mean|
	thumb    [cells]uint8
}

func findNear(ctx context.Context, distinct []picture) (Near, error) {
	sketches := make([]sketch, len(distinct))
	err := each(ctx, len(distinct), func(i int) (err error) {
		sketches[i], err = newSketch(distinct[i].part.Set, distinct[i].index)
		return err
	})
	if err != nil {
		return Near{}, err
	}
	s := &search{sketches: sketches, parent: make([]int, len(distinct)), complete: true}
	for i := range s.parent {
		s.parent[i] = i
	}
	if err := s.run(ctx); err != nil {
		return Near{}, err
	}
	near := Near{Groups: []Group{}, Complete: s.complete}
	for _, members := range s.groups() {
		near.Images += len(members)
		pictures := make([]picture, len(members))
		for i, m := range members {
			pictures[i] = distinct[m]
		}
		near.Groups = append(near.Groups, newGroup(pictures))
	}
	sortGroups(near.Groups)
	return near, nil
}

func newSketch(s *dataset.Set, index int) (sketch, error) {
	hash, err := goimagehash.DifferenceHash(s.Picture(index))
	if err != nil {
		return sketch{}, err
	}
	out := sketch{hash: spread(hash.GetHash()), thumb: thumbnail(s, index)}
	sum := 0
	for _, v := range out.thumb {
		sum += int(v)
	}
	for _, v := range out.thumb {
		out.contrast += distance(int(v), sum/cells)
	}
	return out, nil
}

// spread reorders the bits of a hash so that each band, a byte, takes one bit
// of each row and one of each column: no band is all margin.
func spread(hash uint64) (out uint64) {
	for bit := range 64 {
		row, column := bit/8, bit%8
		band := (column + row) % 8
		out |= hash >> bit & 1 << (8*band + row)
	}
	return out
}

// thumbnail averages each cell's pixels over all channels.
func thumbnail(s *dataset.Set, index int) (out [cells]uint8) {
	pixels := s.Image(index)
	for cell := range out {
		top, bottom := stretch(cell/side, s.Height)
		left, right := stretch(cell%side, s.Width)
		sum := 0
		for y := top; y < bottom; y++ {
			for _, v := range pixels[(y*s.Width+left)*s.Channels : (y*s.Width+right)*s.Channels] {
				sum += int(v)
			}
		}
		out[cell] = uint8(sum / ((bottom - top) * (right - left) * s.Channels))
	}
	return out
}

// stretch returns the part of a side of n pixels that belongs to a cell; cells
// share pixels where there are fewer than cells.
func stretch(cell, n int) (from, to int) {
	from = cell * n / side
	return from, max((cell+1)*n/side, from+1)
}

func distance(a, b int) int { return max(a-b, b-a) }

// near tells whether two sketches are of almost equal pictures.
func near(a, b *sketch) bool {
	most := int(nearShare * float64(a.contrast+b.contrast) / 2)
	for row := 0; row < cells; row += side {
		for i := row; i < row+side; i++ {
			most -= distance(int(a.thumb[i]), int(b.thumb[i]))
		}
		if most < 0 {
			return false
		}
	}
	return true
}

// search joins near pictures into groups.
type search struct {
	sketches []sketch
	mu       sync.Mutex // guards what follows
	parent   []int      // of a forest with a tree for each group
	complete bool
}

// run looks at one band after another: pictures that are equal there lie side
// by side once sorted.
func (s *search) run(ctx context.Context) error {
	var order []entry
	for i, sketch := range s.sketches {
		if sketch.contrast >= minContrast*cells {
			order = append(order, entry{sketch.hash, i})
		}
	}
	for band := range bands {
		slices.SortFunc(order, func(a, b entry) int {
			// Rotated, the band is on top and like hashes stay close together.
			x := bits.RotateLeft64(a.hash, -bandBits*(band+1))
			y := bits.RotateLeft64(b.hash, -bandBits*(band+1))
			return cmp.Or(cmp.Compare(x, y), cmp.Compare(a.index, b.index))
		})
		err := each(ctx, len(order), func(i int) error {
			s.compare(order[i], order[i+1:], band)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entry is a sketch in a sorted list.
type entry struct {
	hash  uint64
	index int
}

// compare compares a picture with those after it that share its band.
func (s *search) compare(a entry, after []entry, band int) {
	for n, b := range after {
		differ := a.hash ^ b.hash
		if !equalIn(band, differ) {
			return
		}
		if n == maxCompared {
			s.mu.Lock()
			s.complete = false
			s.mu.Unlock()
			return
		}
		if bits.OnesCount64(differ) <= maxBits && firstEqual(differ) == band && near(&s.sketches[a.index], &s.sketches[b.index]) {
			s.join(a.index, b.index)
		}
	}
}

// equalIn tells whether two hashes that differ in the given bits are equal in a
// band.
func equalIn(band int, differ uint64) bool { return uint8(differ>>(bandBits*band)) == 0 }

// firstEqual returns the first band in which they are: a pair is looked at
// there only.
func firstEqual(differ uint64) int {
	band := 0
	for band < bands && !equalIn(band, differ) {
		band++
	}
	return band
}

func (s *search) join(a, b int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, b = s.root(a), s.root(b)
	s.parent[max(a, b)] = min(a, b) // the first of a group is its root
}

func (s *search) root(i int) int {
	for s.parent[i] != i {
		s.parent[i] = s.parent[s.parent[i]]
		i = s.parent[i]
	}
	return i
}

// groups returns the members of each group of two or more, in the order of
// their first ones.
func (s *search) groups() [][]int {
	members := make([][]int, len(s.parent))
	for i := range s.parent {
		root := s.root(i)
		members[root] = append(members[root], i)
	}
	return slices.DeleteFunc(members, func(m []int) bool { return len(m) < 2 })
}
