package dataset

import (
	"context"
	"crypto/sha256"
)

// WithoutCopies returns s without the images that are, pixel for pixel, an earlier
// one of s or one of the other set, which may be nil. Labels do not count: of equal
// images with different labels the first stays. The classes stay as they are, also
// one that has no image left. It reads every image once, and returns ctx's error
// when cancelled.
func (s *Set) WithoutCopies(ctx context.Context, other *Set) (*Set, error) {
	seen := map[[sha256.Size]byte]bool{}
	if other != nil {
		for i := range other.Len() {
			seen[sha256.Sum256(other.Image(i))] = true
		}
	}
	var keep []int
	for i := range s.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(s.Image(i)); !seen[sum] {
			seen[sum] = true
			keep = append(keep, i)
		}
	}
	return s.Subset(keep), nil
}
