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
		if _, err := other.unseen(ctx, seen); err != nil {
			return nil, err
		}
	}
	keep, err := s.unseen(ctx, seen)
	if err != nil {
		return nil, err
	}
	return s.Subset(keep), nil
}

// unseen returns the images whose sum is not in seen, and adds it.
func (s *Set) unseen(ctx context.Context, seen map[[sha256.Size]byte]bool) ([]int, error) {
	var out []int
	for i := range s.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(s.Image(i)); !seen[sum] {
			seen[sum] = true
			out = append(out, i)
		}
	}
	return out, nil
}
