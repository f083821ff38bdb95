package dataset

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"

	"cordon/internal/seed"
)

// Fingerprint returns the SHA-256, in hex, of the set's shape, labels and
// pixels. Names of classes, files and folders do not enter it. It reads the
// whole set and returns ctx's error when cancelled.
func (s *Set) Fingerprint(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, v := range []int{s.Len(), s.Height, s.Width, s.Channels, len(s.Classes)} {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(v)))
	}
	labels := make([]byte, 0, 4*s.Len())
	for _, label := range s.Labels {
		labels = binary.LittleEndian.AppendUint32(labels, uint32(label))
	}
	h.Write(labels)
	for i := range s.Len() {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		h.Write(s.Image(i))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Counts returns the number of images of each class.
func (s *Set) Counts() []int {
	counts := make([]int, len(s.Classes))
	for _, label := range s.Labels {
		counts[label]++
	}
	return counts
}

// Stats returns the mean and the (population) standard deviation of each
// channel over all pixels, with samples scaled to 0 … 1. An empty set has
// zeros.
func (s *Set) Stats() (mean, std []float64) {
	mean, std = make([]float64, s.Channels), make([]float64, s.Channels)
	n := float64(s.Len() * s.Height * s.Width)
	if n == 0 {
		return mean, std
	}
	for c, histogram := range s.histograms() {
		var sum, squares float64
		for value, count := range histogram {
			v := float64(value) / 255
			sum += v * float64(count)
			squares += v * v * float64(count)
		}
		mean[c] = sum / n
		std[c] = math.Sqrt(max(0, squares/n-mean[c]*mean[c]))
	}
	return mean, std
}

// histograms counts how often each value occurs in each channel. Counts are
// exact, so that the order of summing is fixed.
func (s *Set) histograms() [][256]uint64 {
	counts := make([][256]uint64, s.Channels)
	for i := range s.Len() {
		pixels := s.Image(i)
		for c := range counts {
			for k := c; k < len(pixels); k += s.Channels {
				counts[c][pixels[k]]++
			}
		}
	}
	return counts
}

// Sample draws n indices without replacement, each class in proportion to its
// size (largest remainder), and returns them in ascending order. n is clipped
// to 0 … Len(). A class far below 1/n of the set may get none.
func (s *Set) Sample(n int, seedValue uint64) []int {
	n = min(max(n, 0), s.Len())
	members := make([][]int, len(s.Classes))
	for i, label := range s.Labels {
		members[label] = append(members[label], i)
	}
	var drawn []int
	for class, quota := range quotas(n, s.Counts()) {
		random := seed.Stream(seedValue, "data/sample", uint64(class))
		for _, j := range random.Perm(len(members[class]))[:quota] {
			drawn = append(drawn, members[class][j])
		}
	}
	slices.Sort(drawn)
	return drawn
}

// quotas divides n in proportion to the counts; equal remainders go to the
// lower class.
func quotas(n int, counts []int) []int {
	total := 0
	for _, c := range counts {
		total += c
	}
	quota := make([]int, len(counts))
	if total == 0 {
		return quota
	}
	order := make([]int, len(counts))
	left := n
	for class, c := range counts {
		order[class] = class
		quota[class] = n * c / total
		left -= quota[class]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(n*counts[b]%total, n*counts[a]%total)
	})
	for _, class := range order[:left] {
		quota[class]++
	}
	return quota
}
