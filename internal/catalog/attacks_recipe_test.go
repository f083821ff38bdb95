package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/catalog"
)

func read(t *testing.T, text string) (catalog.Poisoning, error) {
	t.Helper()
	return catalog.ReadPoisoning(strings.NewReader(text))
}

// resolve reads a recipe and resolves it for three classes.
func resolve(t *testing.T, text string) ([]attack.Part, error) {
	t.Helper()
	p, err := read(t, text)
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return nil, err
	}
	return p.For([]string{"cat", "1", "bird"})
}

func TestPoisoning(t *testing.T) {
	p, err := read(t, `seed = 7
[[part]]
attack = "wanet"
params = { grid = 8, strength = 0.75 }
cover = { noise = 1 }
test = { strength = 2 }
target = "bird"
rate = 0.05
cover_rate = 0.1
[[part]]
attack = "blend"
target = "0"
rate = 0
`)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := p.For([]string{"cat", "1", "bird"})
	if err != nil {
		t.Fatal(err)
	}
	spec := func(strength, noise string) attack.Spec {
		return attack.Spec{Name: "wanet", Params: map[string]string{
			"grid": "8", "strength": strength, "rescale": "1", "noise": noise, "seed": "0"}}
	}
	want := []attack.Part{
		{Train: spec("0.75", "0"), Cover: spec("0.75", "1"), Test: spec("2", "0"),
			Mode: attack.DirtyLabel, Target: 2, Rate: .05, CoverRate: .1},
		attack.PartOf(attack.DefaultBlend(), 0, 0),
	}
	if fmt.Sprintf("%+v", parts) != fmt.Sprintf("%+v", want) || p.Seed != 7 {
		t.Errorf("got seed %d and\n%+v, want\n%+v", p.Seed, parts, want)
	}
	if empty, err := resolve(t, "seed = 3"); err != nil || len(empty) != 0 {
		t.Errorf("a recipe without parts: %v, %v", empty, err)
	}
}

func TestPoisoningErrors(t *testing.T) {
	const part = "[[part]]\nattack = \"badnets\"\ntarget = \"cat\"\nrate = 0.1\n"
	for _, c := range []struct{ text, want string }{
		{"sead = 1", `line 1: unknown key "sead"`},
		{part + "colour = 1", `line 5: unknown key "part.colour"`},
		{part + "rate = 0.2", "line 5: "},
		{"seed = \"one\"", "line 1: "},
		{"seed = -1", "line 1: "},
		{part + "params = 3", "line 5: "},
		{part + "params = { size = [1] }", "parameter size: must be a number or a text"},
		{part + "params = { colour = 1 }", `no parameter "colour"`},
		{part + "test = { size = 0 }", "size 0"},
		{part + "cover = { position = \"left\" }", "position"},
		{strings.Replace(part, "badnets", "nosuch", 1), `unknown attack "nosuch"`},
		{strings.Replace(part, "rate = 0.1", "", 1), "rate is missing"},
		{strings.Replace(part, "0.1", "1.5", 1), "poison rate 1.5"},
		{strings.Replace(part, "0.1", "nan", 1), "poison rate NaN"},
		{strings.Replace(part, "cat", "dog", 1), `target "dog" is neither a class name nor a number from 0 to 2`},
		{strings.Replace(part, "cat", "3", 1), "from 0 to 2"},
		{strings.Replace(part, "cat", "", 1), "dirty-label needs a target class"},
		{part + "mode = \"all-to-all\"", `target "cat": all-to-all has no target`},
		{part + "mode = \"sideways\"", "label mode"},
		{part + "[[part]]\nattack = \"none\"\nrate = 0.1", `part 2: label mode ""`},
		{"# " + strings.Repeat("x", 64<<10), "larger than"},
	} {
		if _, err := resolve(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q: error %v, want one with %q", c.text, err, c.want)
		}
	}
}

// recipes lists the poison recipes that cordon comes with.
func recipes(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, folder := range []string{"../../recipes/table2/poison", "../../recipes/poison"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.toml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no recipes in %s: %v", folder, err)
		}
		all = append(all, files...)
	}
	return all
}

// TestRecipes plans and applies every poison recipe.
func TestRecipes(t *testing.T) {
	set := attacktest.Set(attack.Shape{Height: 32, Width: 32, Channels: 3}, 1000)
	for _, path := range recipes(t) {
		p := parseRecipe(t, path)
		parts, err := p.For(set.Classes)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		truth, err := attack.Plan(t.Context(), set, p.Seed, parts)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if _, err := truth.Apply(t.Context(), set, catalog.AttackFromSpec); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestTable2 holds the recipes of table 2 and of § 5.1 to the paper, for the classes
// that the data sets have.
func TestTable2(t *testing.T) {
	named := func(count int, format string) []string {
		var names []string
		for i := range count {
			names = append(names, fmt.Sprintf(format, i))
		}
		return names
	}
	classes := map[string][]string{
		"mnist":   named(10, "%d"),
		"cifar10": {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"},
		"tsrd":    named(58, "%03d"),
	}
	const (
		square = "badnets opacity=1 pattern=square position=bottom-right size=3"
		blend  = "blend alpha=0.2 image= missing=0 pattern=blocks seed=0"
		sig    = "sig delta=40 frequency=6"
		warp   = "wanet grid=4 noise=0 rescale=1 seed=0 strength="
	)
	want := map[string]string{
		"mnist-badnets":           square + " dirty-label 3 0.1",
		"mnist-badnets-dirty-5.1": square + " dirty-label 3 0.08978 of each; " + square + " clean-label 3 0.01022",
		"mnist-badnets-clean-5.1": square + " clean-label 3 0.0511",
		"cifar10-blend":           blend + " clean-label 2 0.01",
		"cifar10-blend-strong":    strings.Replace(blend, "0.2", "0.4", 1) + " clean-label 2 0.01",
		"cifar10-blend-clean-5.1": blend + " clean-label 2 0.05",
		"cifar10-blend-dirty-5.1": blend + " dirty-label 2 0.045 of each; " + blend + " clean-label 2 0.005",
		"cifar10-sig":             sig + " clean-label 2 0.03",
		"cifar10-sig-clean-5.1":   sig + " clean-label 2 0.05",
		"cifar10-sig-dirty-5.1":   sig + " dirty-label 2 0.045 of each; " + sig + " clean-label 2 0.005",
		"tsrd-wanet":              warp + "0.5 dirty-label 0 0.05",
		"tsrd-wanet-first":        "[paper] after " + warp + "0.5 dirty-label 0 0.05",
		"tsrd-wanet-strong":       warp + "2 dirty-label 0 0.05",
		"tsrd-wanet-stronger":     warp + "4 dirty-label 0 0.05",
		"tsrd-wanet-dirty-5.1":    warp + "0.5 dirty-label 0 0.09717 of each; " + warp + "0.5 clean-label 0 0.00283",
		"tsrd-wanet-clean-5.1":    warp + "0.5 clean-label 0 0.01415",
		"tsrd-wanet-covers": warp + "0.5 dirty-label 0 0.05, covers 0.1 of " +
			strings.Replace(warp, "noise=0", "noise=1", 1) + "0.5",
	}
	got := map[string]string{}
	for _, path := range recipes(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".toml")
		set, _, _ := strings.Cut(name, "-")
		if classes[set] == nil {
			continue // a recipe for any set
		}
		recipe := parseRecipe(t, path)
		parts, err := recipe.For(classes[set])
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var texts []string
		for _, p := range parts {
			text := fmt.Sprintf("%s %s %d %v", p.Train, p.Mode, p.Target, p.Rate)
			if p.Stratified {
				text += " of each"
			}
			if p.CoverRate > 0 {
				text += fmt.Sprintf(", covers %v of %s", p.CoverRate, p.Cover)
			}
			texts = append(texts, text)
		}
		got[name] = strings.Join(texts, "; ")
		if recipe.Enlarge != nil {
			got[name] = fmt.Sprintf("%v after %s", recipe.Enlarge, got[name])
		}
	}
	for name := range got {
		if got[name] != want[name] {
			t.Errorf("%s poisons by\n%s, want\n%s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d recipes, want %d", len(got), len(want))
	}
}

// parseRecipe reads a poison recipe from its file.
func parseRecipe(t *testing.T, path string) catalog.Poisoning {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(t, string(text))
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p
}

func FuzzReadPoisoning(f *testing.F) {
	for _, path := range recipes(f) {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	set := attacktest.Set(attack.Shape{Height: 8, Width: 8, Channels: 1}, 20)
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "image") || strings.Contains(string(text), "mask") {
			t.Skip("would open files")
		}
		p, err := catalog.ReadPoisoning(strings.NewReader(string(text)))
		if err != nil || p.Check() != nil {
			return
		}
		parts, err := p.For(set.Classes)
		if err != nil {
			return
		}
		truth, err := attack.Plan(t.Context(), set, p.Seed, parts)
		if err != nil {
			return
		}
		if err := truth.Validate(); err != nil {
			t.Errorf("a plan contradicts itself: %v", err)
		}
	})
}
