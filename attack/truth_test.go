package attack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cordon/dataset"
)

func testTruth(t testing.TB) *Truth {
	t.Helper()
	set := &dataset.Set{
		Classes: []string{"cat", "dog", "eel"}, Height: 4, Width: 4, Channels: 1,
		Pixels: make([]byte, 10*16), Labels: []int32{0, 1, 2, 0, 1, 2, 0, 1, 2, 0},
	}
	truth, err := Plan(t.Context(), set, 1<<64-1, []Part{PartOf(DefaultBadNets(), 1, .3)})
	if err != nil {
		t.Fatal(err)
	}
	truth.Poisoned = "b"
	return truth
}

func TestTruthRoundTrip(t *testing.T) {
	truth := testTruth(t)
	path := filepath.Join(t.TempDir(), "truth.json")
	if err := truth.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTruth(path)
	if err != nil {
		t.Fatal(err)
	}
	truth.hashed = nil // of this process
	if !reflect.DeepEqual(got, truth) {
		t.Errorf("read %+v, want %+v", got, truth)
	}
	if indices := got.Indices(Poisoned); len(indices) != 3 || indices[1] != got.Changed[1].Index || got.Indices(Cover) != nil {
		t.Errorf("indices %v of %v", indices, got.Changed)
	}
}

func TestTruthWithoutPoison(t *testing.T) {
	set := &dataset.Set{Classes: []string{"cat"}, Height: 1, Width: 1, Channels: 3, Pixels: make([]byte, 3), Labels: []int32{0}}
	for _, parts := range [][]Part{nil, {PartOf(DefaultSIG(), 0, 0)}} {
		if truth, err := Plan(t.Context(), set, 0, parts); err != nil || len(truth.Changed) > 0 {
			t.Errorf("%v: %v, %v", parts, truth, err)
		}
	}
}

const (
	validSpec = `{"name":"badnets","params":{"size":"3"}}`
	valid     = `{"version":2,"seed":7,"parts":[{"train":` + validSpec + `,"cover":` + validSpec + `,"test":` + validSpec +
		`,"mode":"dirty-label","target":1,"rate":0.2,"cover_rate":0.1}],"source":"a","poisoned":"b",` +
		`"shape":{"height":4,"width":4,"channels":1},"classes":["cat","dog","eel"],"samples":10,"changed":[` +
		`{"index":2,"source":3,"part":0,"role":"poisoned","label":0,"given":1},` +
		`{"index":4,"source":2,"part":0,"role":"cover","label":2,"given":2},` +
		`{"index":5,"source":5,"part":0,"role":"poisoned","label":0,"given":1}]}`
)

func TestReadTruthErrors(t *testing.T) {
	if _, err := parseTruth([]byte(valid)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"version":2`, `"version":1`, "truth version 1: this program knows version 2; poison the data again"},
		{`"version":2,`, ``, "version 0"},
		{`"seed":7`, `"seed":7,"sead":8`, "sead"},
		{`"seed":7`, `"seed":-7`, "seed"},
		{`"badnets"`, `""`, "no name"},
		{`dirty-label`, `grimy-label`, "label mode"},
		{`dirty-label`, `clean-label`, "contradicts clean-label"},
		{`dirty-label`, `all-to-all`, "has no target"},
		{`"target":1`, `"target":3`, "3 classes"},
		{`"target":1`, `"target":-1`, "negative"},
		{`"rate":0.2`, `"rate":2`, "0 to 1"},
		{`"rate":0.2`, `"rate":0.3`, "of 10 source samples makes 3"},
		{`"cover_rate":0.1`, `"cover_rate":0.2`, "1 cover samples, but rate 0.2 of 10 source samples makes 2"},
		{`"height":4`, `"height":0`, "sides"},
		{`"channels":1`, `"channels":4`, "channels"},
		{`"samples":10`, `"samples":0`, "0 samples"},
		{`"source":"a",`, ``, "fingerprint"},
		{`"index":2`, `"index":5`, "listed after 5"},
		{`"index":4`, `"index":2`, "listed twice"},
		{`"index":2`, `"index":6`, "must ascend"},
		{`"index":5`, `"index":10`, "has 10 samples"},
		{`"index":2`, `"index":-1`, "has 10 samples"},
		{`"source":3`, `"source":5`, "source 5 is listed twice"},
		{`"source":3`, `"source":10`, "source 10"},
		{`"part":0`, `"part":1`, "part 1 of 1"},
		{`"role":"cover"`, `"role":"spy"`, "role"},
		{`"role":"cover"`, `"role":"poisoned"`, "contradicts"},
		{`"label":0`, `"label":3`, "3 classes"},
		{`"label":0`, `"label":1`, "contradicts"},
		{`"given":1`, `"given":2`, "contradicts"},
		{`}]}`, `}]} {}`, "more data"},
		{`"changed":[`, `"changed":[0,0,`, "changed 0: json"},
		{`"changed":[`, `"unchanged":[`, "unknown field"},
		{`"index":2`, `"place":2`, "unknown field"},
		{`"parts":[`, `"parts":[` + strings.Repeat(`{},`, 100), "parts: over 100"},
		{`"shape"`, `"variants":["a","b","c","d","e","f","g"],"shape"`, "variants: over 6"},
		{`"shape"`, `"variants":"hflip","shape"`, "variants: not a list"},
		{`}]}`, `}]`, "unexpected EOF"},
		{valid, ``, "not a truth file"},
		{valid, `null`, "version 0"},
		{valid, strings.Repeat(" ", maxTruthBytes) + valid, "larger than"},
	} {
		path := filepath.Join(t.TempDir(), "truth.json")
		if err := os.WriteFile(path, []byte(strings.Replace(valid, c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadTruth(path)
		var format *dataset.FormatError
		if !errors.As(err, &format) || format.Path != path || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: error %v, want a FormatError with %q", c.new, err, c.want)
		}
	}
	if _, err := ReadTruth(os.DevNull); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: %v", err)
	}
	if _, err := ReadTruth(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestWriteRefusesInvalid(t *testing.T) {
	truth := testTruth(t)
	truth.Poisoned = ""
	path := filepath.Join(t.TempDir(), "truth.json")
	if err := truth.Write(path); err == nil {
		t.Error("a truth without fingerprint was written")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was left")
	}
}

func TestRemap(t *testing.T) {
	truth := testTruth(t)
	before := testTruth(t)
	if err := truth.Remap(func(old int) int { return 9 - old }); err != nil {
		t.Fatal(err)
	}
	for k, c := range before.Changed {
		moved := truth.Changed[len(truth.Changed)-1-k]
		if moved.Index != 9-c.Index || moved.Label != c.Label {
			t.Errorf("%v became %v", c, moved)
		}
	}
	for name, wrong := range map[string]func(int) int{
		"out of range": func(old int) int { return old + 10 },
		"twice":        func(int) int { return 0 },
	} {
		truth := testTruth(t)
		if err := truth.Remap(wrong); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if !reflect.DeepEqual(truth, before) {
			t.Errorf("%s: the truth was changed", name)
		}
	}
}

func FuzzParseTruth(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte(strings.Replace(valid, `"index":2`, `"index":4`, 1)))
	f.Add([]byte(`{"version":2,"changed":[{}]}`))
	f.Add([]byte(`[`))
	f.Add([]byte(strings.Replace(valid, `"shape"`, `"variants":[],"shape"`, 1)))
	f.Add([]byte(strings.Replace(valid, `"shape"`, `"variants":["hflip"],"variant_seed":3,"shape"`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		truth, err := parseTruth(data)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "truth.json")
		if err := truth.Write(path); err != nil {
			t.Fatalf("a truth that was read cannot be written: %v", err)
		}
		again, err := ReadTruth(path)
		if err != nil {
			t.Fatalf("a truth that was written cannot be read: %v", err)
		}
		if len(truth.Changed) == 0 { // null and [] are the same
			truth.Changed, again.Changed = nil, nil
		}
		if len(truth.Variants) == 0 {
			truth.Variants = nil
		}
		if len(truth.Parts) == 0 {
			truth.Parts, again.Parts = nil, nil
		}
		if !reflect.DeepEqual(truth, again) {
			t.Fatalf("%+v became %+v", truth, again)
		}
	})
}
