package recipe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestRecipeFiles(t *testing.T) {
	folder := filepath.Join("..", "..", "recipes")
	r, err := Read(filepath.Join(folder, "default.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if r != Default() {
		t.Errorf("default.toml is %+v, Default is %+v", r, Default())
	}
	text, err := os.ReadFile(filepath.Join(folder, "default.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.fields() { // it names every setting
		name := f.key[strings.LastIndexByte(f.key, '.')+1:]
		if !strings.Contains(string(text), "\n"+name+" =") {
			t.Errorf("default.toml does not name %s", f.key)
		}
	}

	rows, err := filepath.Glob(filepath.Join(folder, "table2", "*.toml"))
	if err != nil || len(rows) != 6 {
		t.Errorf("recipes of table 2: %v, %v", rows, err)
	}
	for _, row := range rows {
		if _, err := Read(row); err != nil {
			t.Error(err)
		}
	}

	paper, err := Read(filepath.Join(folder, "paper.toml"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Repair.Method, want.Repair.Objective = "alternating", "ascent"
	want.Repair.Bound, want.Repair.RetainedBound, want.Repair.IsolatedNorm = 0, 0, "update"
	want.Isolate.ScoreNorm, want.Repair.FinetuneEpochs = "running", 0
	if paper != want {
		t.Errorf("paper.toml is %+v, want %+v", paper, want)
	}
	for _, name := range []string{"demo.toml", "demo-full.toml"} {
		if _, err := Read(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
}

// other returns a valid text for the setting that differs from its value.
func other(f field) string {
	switch f.value.Kind() {
	case reflect.String:
		allowed, _ := rule(enums, f.key)
		for _, s := range allowed {
			if s != f.value.String() {
				return s
			}
		}
		return "other"
	case reflect.Bool:
		return fmt.Sprint(!f.value.Bool())
	case reflect.Float64:
		return fmt.Sprint(f.value.Float()/2 + 0.001)
	case reflect.Int:
		return fmt.Sprint(f.value.Int() + 1)
	default:
		return "7"
	}
}

func TestEveryFieldIsSettable(t *testing.T) {
	base := Default()
	hashes := map[string]string{base.Hash(): "the default"}
	for _, f := range base.fields() {
		text := other(f)
		r := Default()
		if err := r.Set(f.key + "=" + text); err != nil {
			t.Errorf("Set: %v", err)
			continue
		}
		if first, taken := hashes[r.Hash()]; taken {
			t.Errorf("%s=%s has the hash of %s", f.key, text, first)
		}
		hashes[r.Hash()] = f.key

		// The same through a file, without Validate's view of combinations.
		if f.value.Kind() == reflect.String {
			text = `"` + text + `"`
		}
		var document map[string]any
		if err := toml.Unmarshal([]byte(f.key+" = "+text), &document); err != nil {
			t.Fatal(err)
		}
		parsed := Default()
		if err := parsed.assign("", document); err != nil || parsed != r {
			t.Errorf("%s: a file gives %+v (%v), Set gives %+v", f.key, parsed, err, r)
		}
	}
	if got, want := len(base.fields()), countLeaves(reflect.TypeFor[Recipe]()); got != want {
		t.Errorf("fields lists %d settings, the struct has %d", got, want)
	}
}

func countLeaves(typ reflect.Type) (n int) {
	for i := range typ.NumField() {
		if f := typ.Field(i).Type; f.Kind() == reflect.Struct {
			n += countLeaves(f)
		} else {
			n++
		}
	}
	return n
}

// wantError checks that err is an *Error for key and says all of parts.
func wantError(t *testing.T, err error, key string, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: got %v, want an *Error", key, err)
		return
	}
	if e.Key != key {
		t.Errorf("error %v names %q, want %q", err, e.Key, key)
	}
	for _, p := range parts {
		if !strings.Contains(e.Error(), p) {
			t.Errorf("error %q does not say %q", e, p)
		}
	}
}

func TestEnumsAndRanges(t *testing.T) {
	base := Default()
	for _, f := range base.fields() {
		set := func(text string) error {
			r := Default()
			if err := r.Set(f.key + "=" + text); err != nil {
				return err
			}
			return r.Validate()
		}
		switch f.value.Kind() {
		case reflect.String:
			allowed, found := rule(enums, f.key)
			if !found {
				t.Errorf("%s has no enum", f.key)
			}
			for _, text := range []string{"wrong", "", strings.ToUpper(allowed[0])} {
				wantError(t, set(text), f.key, allowed[0], fmt.Sprintf("%q", text))
			}
		case reflect.Int, reflect.Float64:
			v, found := rule(ranges, f.key)
			if !found {
				t.Errorf("%s has no range", f.key)
			}
			above := fmt.Sprint(int64(v.max) + 1)
			wantError(t, set("-1"), f.key, "is -1", v.String())
			wantError(t, set(above), f.key, "is "+above, v.String())
			if f.value.Kind() == reflect.Int {
				wantError(t, set(fmt.Sprint(int64(v.min)-1)), f.key)
				wantError(t, set("1.5"), f.key, "1.5", "integer")
				continue
			}
			for _, text := range []string{"NaN", "Inf", "-Inf", fmt.Sprint(math.Nextafter(v.max, 1e9)), "-5e-324"} {
				wantError(t, set(text), f.key, v.String())
			}
			if err := set(fmt.Sprint(v.max)); (err != nil) != v.open {
				t.Errorf("%s at its limit %g: %v", f.key, v.max, err)
			}
		case reflect.Bool:
			wantError(t, set("1"), f.key, "true or false")
		}
	}
	r := Default()
	wantError(t, r.Set("seed=-1"), "seed", "2^63-1")
	r.Seed = 1 << 63
	wantError(t, r.Validate(), "seed", "9223372036854775808")
}

func TestCombinations(t *testing.T) {
	tests := []struct {
		set []string
		key string // of the error, empty for none
	}{
		{[]string{"base.schedule=step"}, "base.step_epochs"},
		{[]string{"base.schedule=step", "base.step_epochs=3"}, ""},
		{[]string{"repair.schedule=step"}, "repair.step_epochs"},
		{[]string{"partial.nesterov=true", "partial.momentum=0"}, "partial.nesterov"},
		{[]string{"isolate.epochs=mean"}, ""},
		{[]string{"isolate.epochs=mean", "isolate.model=base"}, "isolate.epochs"},
		{[]string{"isolate.epochs=mean", "partial.score_epochs=false"}, "isolate.epochs"},
		{[]string{"isolate.epochs=mean", "isolate.ranking=gap"}, "isolate.epochs"},
		{[]string{"isolate.epochs=mean", "isolate.ranking=gap", "base.score_epochs=true"}, ""},
		{[]string{"repair.learning_rate=0"}, "repair.learning_rate"},
		{[]string{"repair.learning_rate=0", "repair.method=alternating"}, ""},
	}
	for _, test := range tests {
		r := Default()
		for _, s := range test.set {
			if err := r.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		err := r.Validate()
		if test.key == "" {
			if err != nil {
				t.Errorf("%v: %v", test.set, err)
			}
			continue
		}
		wantError(t, err, test.key)
	}
}

func TestParse(t *testing.T) {
	r, err := Parse([]byte("seed = 5\n[base]\nlearning_rate = 1 # an integer\n[partial]\nepochs = 4\nfrozen_fraction = 0.3\n[repair]\nbatch = 32\nmethod = 'alternating'"))
	want := Default()
	want.Seed, want.Base.LearningRate = 5, 1
	want.Partial.Epochs, want.Partial.FrozenFraction = 4, 0.3
	want.Repair.Batch, want.Repair.Method = 32, "alternating"
	if err != nil || r != want {
		t.Errorf("Parse = %+v, %v, want %+v", r, err, want)
	}

	tests := []struct{ text, key, part string }{
		{"[base]\nlearning_rat = 1", "base.learning_rat", "did you mean base.learning_rate?"},
		{"[bass]\nepochs = 1", "bass", "unknown key"},
		{"[partial.train]\nepochs = 1", "partial.train", "unknown key"},
		{"[partial.Train]\nepochs = 1", "partial.Train", "unknown key"},
		{"[Base]\nepochs = 1", "Base", "unknown key"},
		{"[base]\nEpochs = 1", "base.Epochs", "did you mean base.epochs?"},
		{"base = 1", "base", "unknown key"},
		{"\"base.epochs\" = 1", "base.epochs", "unknown key"}, // a quoted dot
		{"[base.epochs]\nx = 1", "base.epochs", "want an integer"},
		{"[base]\nepochs = [1, 2]", "base.epochs", "want an integer"},
		{"[base]\nepochs = 1979-05-27", "base.epochs", "want an integer"},
		{"[base]\nepochs = 0", "base.epochs", "is 0, want from 1"},
		{"[base]\nepochs = 3\nepochs = 4", "", "epochs"},
		{"[base]\nepochs = ", "", "line 2"},
		{"[base]\nlearning_rate = nan", "base.learning_rate", "want from 0 to 100"},
		{"seed = 99999999999999999999", "", "line 1"},
		{"seed = 1.0", "seed", "integer"},
		{"\x00", "", "line 1"},
		{strings.Repeat("#", maxSize+1), "", "larger"},
		{"x = " + strings.Repeat("[", maxSize/2), "", ""},
	}
	for _, test := range tests {
		_, err := Parse([]byte(test.text))
		wantError(t, err, test.key, test.part)
	}
}

func TestSetRefuses(t *testing.T) {
	for setting, part := range map[string]string{
		"base.epochs":          "no value",
		"":                     "no value",
		"=3":                   "unknown key",
		"base=3":               "unknown key",
		"model.arc=resnet50":   "did you mean model.arch?",
		"base.epochs=":         "want an integer",
		"base.epochs=3\nx=1":   "want an integer",
		"base.nesterov=yes":    "true or false",
		"base.learning_rate=x": "want a number",
	} {
		r := Default()
		if err := r.Set(setting); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Set(%q) = %v, want %q", setting, err, part)
		}
		if r != Default() {
			t.Errorf("Set(%q) failed but changed the recipe", setting)
		}
	}
	r := Default()
	if err := r.Set(` model.arch = "resnet18" `); err != nil || r.Model.Arch != "resnet18" {
		t.Errorf("quoted and spaced: %q, %v", r.Model.Arch, err)
	}
}

func TestReadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(path, []byte("x = 1"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Read(path)
	wantError(t, err, "x")
	if !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("%q does not begin with the file", err)
	}
	if _, err := Read(os.DevNull); err == nil {
		t.Error("accepted a device")
	}
	if _, err := Read(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// The library's own reading and writing of the structs must agree with ours:
// the embedded Train is flattened in both directions.
func TestEncodeAgreesWithStructTags(t *testing.T) {
	r := Default()
	r.Partial.Batch, r.Repair.Epochs, r.Seed = 17, 23, math.MaxInt64
	var fromOurs Recipe
	if err := toml.Unmarshal(r.Encode(), &fromOurs); err != nil || fromOurs != r {
		t.Errorf("the library reads %+v, %v", fromOurs, err)
	}
	theirs, err := toml.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if fromTheirs, err := Parse(theirs); err != nil || fromTheirs != r {
		t.Errorf("Parse reads %+v, %v from\n%s", fromTheirs, err, theirs)
	}
}

// The hash names runs and caches: it changes only with a setting.
func TestHashIsStable(t *testing.T) {
	if got, again := Default().Hash(), Default().Hash(); got != again || len(got) != 64 {
		t.Errorf("hashes %s and %s", got, again)
	}
	want := "seed = 0\n\n[model]\narch = \"resnet50\"\n"
	if got := string(Default().Encode()); !strings.HasPrefix(got, want) {
		t.Errorf("Encode begins %q", got[:len(want)])
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(Default().Encode()))
	f.Add("[base]\nlearning_rate = 1e-3\nepochs = 7")
	f.Add("isolate = {rate = 0.25, scope = \"class\"}")
	f.Add("base.epochs = 0x10\nseed = 1_000")
	f.Add("[[base]]\nepochs = 1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse([]byte(text))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		again, err := Parse(r.Encode())
		if err != nil || again != r || again.Hash() != r.Hash() {
			t.Fatalf("%+v, read again %+v, %v", r, again, err)
		}
	})
}
