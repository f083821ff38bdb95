package attack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parityCase is one record of triggers.json, in testdata or CORDON_FIXTURES,
// which tools/parity/triggers.py computes with numpy.
type parityCase struct {
	Trigger                 string
	Height, Width, Channels int
	Params                  map[string]string
	SHA256                  string
	Bytes                   []byte // base64; large images have the hash only
}

func TestTriggersMatchNumpy(t *testing.T) {
	folder := cmp.Or(os.Getenv("CORDON_FIXTURES"), "testdata")
	data, err := os.ReadFile(filepath.Join(folder, "triggers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []parityCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		got := c.run(t)
		if sum := sha256.Sum256(got); hex.EncodeToString(sum[:]) == c.SHA256 {
			continue
		}
		t.Errorf("%s %v on %d×%d×%d differs from numpy", c.Trigger, c.Params, c.Height, c.Width, c.Channels)
		if c.Bytes != nil {
			t.Errorf("first difference at byte %d", firstDifference(got, c.Bytes))
		}
	}
}

// run makes in Go what the case holds.
func (c parityCase) run(t *testing.T) []byte {
	shape := Shape{c.Height, c.Width, c.Channels}
	if c.Trigger == "blocks" {
		var drawn [blockGrid * blockGrid]int
		for k := range drawn {
			drawn[k] = (k*611 + 97) % hues
		}
		return blockPattern(shape, drawn)
	}
	dst := make([]byte, shape.Bytes())
	if name, ok := strings.CutPrefix(c.Trigger, "drawn "); ok { // whole, with what a seed draws
		c.Trigger = name
		c.trigger(t, shape).Apply(dst, formula(shape, 37, 5), 7)
		return dst
	}
	if c.Trigger == "wanet" { // of a formula's field
		c.warp(t, shape, dst)
		return dst
	}
	if c.Trigger == "pieces" {
		c.trigger(t, shape).(blend).mix(dst, formula(shape, 37, 5), []int{0, 5, 6, 15})
		return dst
	}
	c.trigger(t, shape).Apply(dst, formula(shape, 37, 5), 0)
	return dst
}

func (c parityCase) trigger(t *testing.T, shape Shape) Trigger {
	params := map[string]string{}
	maps.Copy(params, c.Params)
	switch { // with pictures that both fill by a formula
	case c.Trigger == "pieces", c.Trigger == "blend" && params["pattern"] == "":
		params["pattern"], params["image"] = "image", picture(t, shape, formula(shape, 91, 40), opaque)
	case c.Trigger == "custom":
		params["image"] = picture(t, shape, formula(shape, 91, 40), func(i int) byte { return byte(i*7 + 3) })
		if params["mask"] == "formula" {
			mask := Shape{shape.Height, shape.Width, 1}
			params["mask"] = picture(t, mask, formula(mask, 53, 9), opaque)
		}
	}
	a := map[string]Attack{"badnets": DefaultBadNets(), "sig": DefaultSIG(), "blend": DefaultBlend(), "wanet": DefaultWaNet(), "pieces": DefaultBlend(), "custom": DefaultCustom()}[c.Trigger]
	if err := Configure(a, params); err != nil {
		t.Fatal(err)
	}
	trigger, err := a.Trigger(shape)
	if err != nil {
		t.Fatal(err)
	}
	return trigger
}

func (c parityCase) warp(t *testing.T, shape Shape, dst []byte) {
	w := DefaultWaNet()
	if err := Configure(w, c.Params); err != nil {
		t.Fatal(err)
	}
	control := make([]vector, w.Grid*w.Grid)
	for k := range control {
		control[k] = vector{spread(k, 389, 71), spread(k, 577, 13)}
	}
	pixel := -1
	newWarp(shape, *w, control).bend(dst, formula(shape, 37, 5), func() vector {
		pixel++
		return vector{spread(pixel, 787, 5), spread(pixel, 463, 29)}
	})
}

// spread is a number of −1…1 that triggers.py computes alike.
func spread(k, step, offset int) float64 { return float64((k*step+offset)%1024)/512 - 1 }

// formula fills an image as triggers.py does.
func formula(shape Shape, step, offset int) []byte {
	image := make([]byte, shape.Bytes())
	for k := range image {
		image[k] = byte(k*step + k/8*11 + offset)
	}
	return image
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestPatternsStay pins the drawn patterns: a truth file must mean the same
// pixels in every later version.
func TestPatternsStay(t *testing.T) {
	shape := Shape{32, 32, 3}
	for _, c := range []struct {
		name    string
		pattern []byte
		want    string
	}{
		{"blocks", blockPattern(shape, drawHues(1)), "fd06506035aad6b7"},
		{"noise", noisePattern(shape, 1), "e63d3f861ab3b941"},
	} {
		sum := sha256.Sum256(c.pattern)
		if got := hex.EncodeToString(sum[:8]); got != c.want {
			t.Errorf("%s pattern of seed 1 changed: %s, want %s", c.name, got, c.want)
		}
	}
	lacks := blend{missing: 8, seed: 1}
	if got, want := lacks.missingPieces(7), []int{10, 11, 2, 1, 8, 6, 14, 0}; !slices.Equal(got, want) {
		t.Errorf("image 7 lacks pieces %v, want %v", got, want)
	}
	if got, want := drawControl(4, 1)[0], (vector{-0.2534767024813265, -0.8295434593196342}); got != want {
		t.Errorf("field of seed 1 begins with %v, want %v", got, want)
	}
	if bytes.Equal(noisePattern(shape, 1), noisePattern(shape, 2)) || drawHues(1) == drawHues(2) {
		t.Error("seeds 1 and 2 give the same pattern")
	}
}
