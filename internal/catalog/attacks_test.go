package catalog_test

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cordon/attack"
	"cordon/attack/attacktest"
	"cordon/internal/catalog"
)

func TestAttacks(t *testing.T) {
	for _, a := range catalog.Attacks() {
		if a.Name() == "custom" {
			t.Run(a.Name(), func(t *testing.T) { attacktest.Run(t, withPicture(t, attack.SpecOf(a), "image", "mask")) })
			continue
		}
		t.Run(a.Name(), func(t *testing.T) { attacktest.Run(t, fresh(t, attack.SpecOf(a))) })
	}
}

// fresh makes the attack of a spec, whatever the shape.
func fresh(t *testing.T, spec attack.Spec) attacktest.Make {
	return func(attack.Shape) attack.Attack {
		a, err := catalog.AttackFromSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// withPicture makes the attack of a spec with a picture of the images' size.
func withPicture(t *testing.T, spec attack.Spec, params ...string) attacktest.Make {
	dir := t.TempDir()
	return func(shape attack.Shape) attack.Attack {
		path := filepath.Join(dir, shape.String()+".png")
		picture := image.NewGray(image.Rect(0, 0, shape.Width, shape.Height))
		for i := range picture.Pix {
			picture.Pix[i] = byte(i * 31)
		}
		var file bytes.Buffer
		if err := errors.Join(png.Encode(&file, picture), os.WriteFile(path, file.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		a := fresh(t, spec)(shape)
		for _, name := range params {
			if err := attack.Configure(a, map[string]string{name: path}); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
}

// TestBlendOfAPicture runs the suite on the user's own pattern.
func TestBlendOfAPicture(t *testing.T) {
	attacktest.Run(t, func(shape attack.Shape) attack.Attack {
		custom := withPicture(t, attack.Spec{Name: "custom"}, "image")(shape).(*attack.Custom)
		b := attack.DefaultBlend()
		b.Pattern, b.Image = "image", custom.Image
		return b
	})
}

// TestAttackVariants runs the suite on parameters other than the defaults and
// checks that a fresh attack takes all of them over from the spec.
func TestAttackVariants(t *testing.T) {
	for _, spec := range []attack.Spec{
		{Name: "badnets", Params: map[string]string{"size": "5", "position": "top-left", "pattern": "checkerboard", "opacity": "1"}},
		{Name: "badnets", Params: map[string]string{"size": "1", "position": "bottom-left", "pattern": "square", "opacity": "0.2"}},
		{Name: "badnets", Params: map[string]string{"size": "3", "position": "all-corners", "pattern": "four-pixels", "opacity": "0.5"}},
		{Name: "badnets", Params: map[string]string{"size": "2", "position": "20,3", "pattern": "square", "opacity": "1"}},
		{Name: "blend", Params: map[string]string{"alpha": "0.1", "image": "", "pattern": "noise", "missing": "0", "seed": "18446744073709551615"}},
		{Name: "blend", Params: map[string]string{"alpha": "0.15", "image": "", "pattern": "blocks", "missing": "8", "seed": "2"}},
		{Name: "sig", Params: map[string]string{"delta": "20.5", "frequency": "3"}},
		{Name: "wanet", Params: map[string]string{"grid": "8", "strength": "2", "rescale": "0.9", "noise": "1", "seed": "3"}},
	} {
		t.Run(spec.Name, func(t *testing.T) {
			a, err := catalog.AttackFromSpec(spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := attack.SpecOf(a); !reflect.DeepEqual(got, spec) {
				t.Errorf("spec became %v, want %v", got, spec)
			}
			attacktest.Run(t, fresh(t, spec))
		})
	}
}

func TestAttackErrors(t *testing.T) {
	for _, c := range []struct {
		spec attack.Spec
		want string // what the error must say
	}{
		{attack.Spec{Name: "badnet"}, "badnets, blend, sig, wanet, custom, none"},
		{attack.Spec{Name: "sig", Params: map[string]string{"alpha": ".2"}}, "delta, frequency"},
		{attack.Spec{Name: "sig", Params: map[string]string{"frequency": "six"}}, `frequency="six": parse error, want a whole number`},
		{attack.Spec{Name: "sig", Params: map[string]string{"delta": "NaN"}}, "delta"},
		{attack.Spec{Name: "blend", Params: map[string]string{"alpha": "1.5"}}, "alpha"},
		{attack.Spec{Name: "blend", Params: map[string]string{"alpha": "NaN"}}, "alpha"},
		{attack.Spec{Name: "blend", Params: map[string]string{"pattern": "stripes"}}, "blocks, noise, image"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"position": "left"}}, "bottom-right"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"position": "1,-1"}}, "or X,Y"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"size": "2", "pattern": "four-pixels"}}, "size 3"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"size": "0"}}, "size"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"opacity": "0"}}, "opacity"},
		{attack.Spec{Name: "badnets", Params: map[string]string{"opacity": "NaN"}}, "opacity"},
		{attack.Spec{Name: "blend", Params: map[string]string{"missing": "16"}}, "0 to 15"},
		{attack.Spec{Name: "blend", Params: map[string]string{"missing": "-1"}}, "0 to 15"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"grid": "1"}}, "2 to 64"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"strength": "0"}}, "strength"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"rescale": "NaN"}}, "rescale"},
		{attack.Spec{Name: "wanet", Params: map[string]string{"noise": "-1"}}, "noise"},
	} {
		if _, err := catalog.AttackFromSpec(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want one with %q", c.spec, err, c.want)
		}
	}
}

// FuzzParameters sets any parameter of any attack to any text: it is refused, or
// the attack with it has a trigger or says why not, and its spec rebuilds it.
func FuzzParameters(f *testing.F) {
	for k, a := range catalog.Attacks() {
		for name, value := range attack.SpecOf(a).Params {
			f.Add(uint(k), name, value)
		}
	}
	f.Add(uint(0), "size", "1e9")
	f.Add(uint(3), "strength", "NaN")
	f.Fuzz(func(t *testing.T, which uint, name, value string) {
		if name == "image" || name == "mask" {
			t.Skip("would open files")
		}
		all := catalog.Attacks()
		a, err := catalog.AttackFromSpec(attack.Spec{Name: all[which%uint(len(all))].Name(), Params: map[string]string{name: value}})
		if err != nil {
			return
		}
		spec := attack.SpecOf(a)
		again, err := catalog.AttackFromSpec(spec)
		if err != nil || attack.SpecOf(again).String() != spec.String() {
			t.Fatalf("%s does not rebuild itself: %v", spec, err)
		}
		shape := attack.Shape{Height: 8, Width: 8, Channels: 3}
		if trigger, err := a.Trigger(shape); err == nil {
			trigger.Apply(make([]byte, shape.Bytes()), make([]byte, shape.Bytes()), 0)
		}
	})
}
