// Package seed derives independent random streams from one number.
//
// Everything random in cordon comes from (seed, purpose, indices), never from
// the order in which goroutines run, so the number of workers cannot change a
// result and a resumed run draws what the uninterrupted one would have drawn.
package seed

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

// Stream returns the random stream that belongs to a seed, a purpose such as
// "poison/select" and optional indices such as the epoch or the sample. Equal
// arguments give equal streams; different ones give unrelated streams.
func Stream(seed uint64, purpose string, indices ...uint64) *rand.Rand {
	h := sha256.New()
	var word [8]byte
	put := func(v uint64) {
		binary.LittleEndian.PutUint64(word[:], v)
		h.Write(word[:])
	}
	put(seed)
	put(uint64(len(purpose)))
	h.Write([]byte(purpose))
	for _, i := range indices {
		put(i)
	}
	var key [32]byte
	h.Sum(key[:0])
	return rand.New(rand.NewChaCha8(key))
}
