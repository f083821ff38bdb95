package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"cordon/dataset"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; see what changed with -update and git diff\ngot:\n%s", path, got)
	}
}

func write(t *testing.T, r *Report) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGoldenJSON(t *testing.T) {
	for name, build := range map[string]func() (*Report, Evidence){
		"truth.json":    synthetic,
		"parts.json":    func() (*Report, Evidence) { return withParts(synthetic()) },
		"no-truth.json": func() (*Report, Evidence) { return withoutTruth(synthetic()) },
	} {
		r, _ := build()
		b, err := os.ReadFile(write(t, r))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, b)
	}
}

func TestReadReturnsWhatWasWritten(t *testing.T) {
	r, _ := synthetic()
	r.Version = 0 // Write knows the version
	got, err := Read(write(t, r))
	if err != nil {
		t.Fatal(err)
	}
	r.Version = Schema
	if !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v\nwant %+v", got, r)
	}
}

func TestNotFiniteFigures(t *testing.T) {
	r, _ := synthetic()
	r.Curves[0].Epochs[0].Loss = Number(math.NaN())
	r.Curves[0].Epochs[1].Loss = Number(math.Inf(-1))
	r.Models[0].ACC = Of(math.Inf(1))
	got, err := Read(write(t, r))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Curves[0].Epochs[:2] {
		if !math.IsNaN(float64(e.Loss)) {
			t.Errorf("epoch %d: loss %v, want NaN", e.Epoch, e.Loss)
		}
	}
	if got.Models[0].ACC != nil {
		t.Errorf("ACC %v, want none", *got.Models[0].ACC)
	}
}

func TestReadRefuses(t *testing.T) {
	r, _ := synthetic()
	good, err := os.ReadFile(write(t, r))
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the report has no %q", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for _, c := range []struct{ name, content, reason string }{
		{"empty", "", "not a report"},
		{"not JSON", "hello", "not a report"},
		{"no version", `{}`, "no version"},
		{"later version", change(`"version": 1`, `"version": 2`), "report version 2; this cordon reads version 1"},
		{"version 0", change(`"version": 1`, `"version": 0`), "report version 0"},
		{"unknown field", change(`"seed"`, `"sead"`), `unknown field "sead"`},
		{"wrong type", change(`"seed": 0`, `"seed": "0"`), "seed"},
		{"trailing data", string(good) + "{}", "not a report"},
		{"truncated", string(good[:len(good)/2]), "not a report"},
		{"class missing", change("      \"0\",\n", ""), "10 class counts for 9 classes"},
		{"target", change(`"target": 3`, `"target": 10`), "target 10 with 10 classes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "r.json")
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			var bad *dataset.FormatError
			if !errors.As(err, &bad) || bad.Path != path {
				t.Fatalf("got %v, want a FormatError naming the file", err)
			}
			if !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %q, want it to say %q", err, c.reason)
			}
		})
	}
	var syntax *json.SyntaxError
	if _, err := Read("report.go"); !errors.As(err, &syntax) {
		t.Errorf("not JSON: %v has no cause", err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	// Small seeds: the fuzzer shortens every new input byte by byte.
	f.Add([]byte(`{"version":1,"seed":18446744073709551615,"recipe":{"toml":"a = 1"},"started":"2024-05-06T07:08:09Z"}`))
	f.Add([]byte(`{"version":1,"data":{"classes":["a"],"class_counts":[2]},"truth":{"target":-1,"rankings":[{"epochs":[{"epoch":1,"recall":0.5}]}]}}`))
	f.Add([]byte(`{"version":1,"losses":{"base":{"edges":[1,2.5,1e9],"counts":[3,1],"poisoned":[1,0]}},"isolation":{"threshold":0.1}}`))
	f.Add([]byte(`{"version":1,"curves":[{"epochs":[{"epoch":1,"loss":null},{"epoch":2,"loss":-1e300,"test_accuracy":null}]}]}`))
	f.Add([]byte(`{"version":1,"models":[{"name":"M_s","acc":0.5}],"stages":[{"seconds":1e99,"images":-5}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		// What is read can be rendered and comes back unchanged.
		if _, err := newPage(r, Evidence{}); err != nil {
			t.Error(err)
		}
		var table, first, second bytes.Buffer
		if err := Table(&table, r); err != nil {
			t.Error(err)
		}
		if err := r.encode(&first); err != nil {
			t.Fatal(err)
		}
		again, err := parse(first.Bytes())
		if err != nil {
			t.Fatalf("own output refused: %v\n%s", err, first.Bytes())
		}
		if err := again.encode(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("second writing differs: %v", err)
		}
	})
}

func TestGoldenTable(t *testing.T) {
	for name, build := range map[string]func() (*Report, Evidence){
		"truth.txt":    synthetic,
		"parts.txt":    func() (*Report, Evidence) { return withParts(synthetic()) },
		"no-truth.txt": func() (*Report, Evidence) { return withoutTruth(synthetic()) },
	} {
		r, _ := build()
		var b bytes.Buffer
		if err := Table(&b, r); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
}

// Whatever the names are, lines keep to 80 columns and hold nothing that a
// terminal would obey.
func TestTarget(t *testing.T) {
	r, _ := synthetic()
	for _, c := range []struct {
		target int
		parts  []Part
		want   string
	}{
		{3, nil, "3"}, {3, []Part{{Target: 3, Covers: 5}}, "3"},
		{-1, nil, "none"}, {-1, []Part{{Target: -1, Covers: 5}}, "none"},
		{-1, []Part{{Target: 3}, {Target: -1}}, "several"}, {-1, []Part{{Target: -1}, {Target: -1}}, "none"},
	} {
		if r.Truth.Target, r.Truth.Parts = c.target, c.parts; r.target() != c.want {
			t.Errorf("target %d of parts %+v is %q, want %q", c.target, c.parts, r.target(), c.want)
		}
	}
}

func TestTableIsTame(t *testing.T) {
	evil := "\x1b[31m\u202e\n\xff" + strings.Repeat("wide ", 40)
	r, _ := withParts(synthetic())
	r.Truth.Parts[0].Attack, r.Truth.Parts[1].Poisoned = evil, 1e12
	r.Data.Name, r.Truth.Attack, r.Data.Classes[3] = evil, evil, evil
	r.Models[0].Name, r.Stages[0].Name, r.Truth.Rankings[0].Name = evil, evil, evil
	r.Models[0].ACC, r.Stages[0].Seconds, r.Stages[1].Images = Of(-1e300), 1e300, 1e11
	r.Truth.PoisonRate = 1e300
	var b bytes.Buffer
	if err := Table(&b, r); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") || !utf8.Valid(b.Bytes()) {
		t.Error("control characters in the table")
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("line of %d columns: %q", n, line)
		}
	}
}

func TestHistogram(t *testing.T) {
	nan := float32(math.NaN())
	h := NewHistogram([]float32{-1, 0, 1e-9, 1, 1, 1e9, nan, float32(math.Inf(1))},
		[]bool{true, false, false, true, false, false, true, false})
	one := -lowestExponent * binsPerDecade
	for _, c := range []struct{ bin, count, poisoned int }{{0, 3, 1}, {one, 2, 1}, {binCount - 1, 1, 0}} {
		if h.Counts[c.bin] != c.count || h.Poisoned[c.bin] != c.poisoned {
			t.Errorf("bin %d: %d of which %d poisoned, want %d and %d",
				c.bin, h.Counts[c.bin], h.Poisoned[c.bin], c.count, c.poisoned)
		}
	}
	if h.NotFinite != 2 {
		t.Errorf("%d not finite, want 2", h.NotFinite)
	}
	if h.Edges[one] != 1 {
		t.Errorf("edge %v, want 1", h.Edges[one])
	}
	if err := h.check(); err != nil {
		t.Error(err)
	}
	if NewHistogram(nil, nil).Poisoned != nil {
		t.Error("poisoned samples without truth")
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{grouped(0), "0"}, {grouped(999), "999"}, {grouped(1000), "1,000"},
		{grouped(-1234567), "-1,234,567"}, {grouped(-123), "-123"},
		{Number(.1).percent(), "10 %"}, {Number(.0025).percent(), "0.25 %"},
		{Number(math.NaN()).percent(), missing}, {fixed4(nil), missing}, {fixed4(Of(.5)), "0.5000"},
		{clip("abcdef", 4), "abc…"}, {clip("abcd", 4), "abcd"}, {cell("ab", 4), "ab  "},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
