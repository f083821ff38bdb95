package nn

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"cordon/internal/torch"
	"cordon/internal/torch/torchtest"
)

// python runs a script of tools/parity and decodes the logits it prints.
// Without torchvision it skips the test, or fails it with CORDON_REQUIRE_PYTHON.
func python(t *testing.T, script string, args ...string) []float64 {
	t.Helper()
	const interpreter = "/usr/bin/python3"
	if text, err := exec.Command(interpreter, "-c", "import torchvision").CombinedOutput(); err != nil {
		if os.Getenv("CORDON_REQUIRE_PYTHON") != "" {
			t.Fatalf("%s has no torchvision: %v\n%s", interpreter, err, text)
		}
		t.Skipf("%s has no torchvision", interpreter)
	}
	cmd := exec.Command(interpreter, append([]string{filepath.Join("..", "..", "tools", "parity", script)}, args...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	var logits []float64
	if err := json.Unmarshal(text, &logits); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, text)
	}
	return logits
}

func TestTorchvisionLoadsOurFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.safetensors")
	var got []float32
	torchtest.Run(t, func(e *torch.Engine) error {
		m, err := New(e, Config{Arch: "resnet50", Stem: StemImageNet, Classes: fixtureClasses}, torch.CPU, false, 3, "test")
		if err != nil {
			return err
		}
		defer m.Close()
		if got, err = logits(m, 4, 32, torch.NormRunning); err != nil {
			return err
		}
		return Save(file, m, Description{Arch: "resnet50", Stem: StemImageNet, Classes: make([]string, fixtureClasses)})
	})
	if d := distance(got, python(t, "nn_load.py", file)); d > 1e-5 {
		t.Errorf("torchvision's logits are %.2g away", d)
	}
}

func TestWeLoadTorchvisionsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.safetensors")
	want := python(t, "nn_save.py", file)
	torchtest.Run(t, func(e *torch.Engine) error {
		m, d, err := Load(e, file, torch.CPU, false)
		if err != nil {
			return err
		}
		defer m.Close()
		if d.Arch != "resnet50" || d.Stem != StemImageNet || len(d.Classes) != fixtureClasses || !slices.Equal(d.Mean, ImageNetMean) {
			t.Errorf("inferred %+v", d)
		}
		got, err := logits(m, 4, 32, torch.NormRunning)
		if err != nil {
			return err
		}
		if d := distance(got, want); d > 1e-5 {
			t.Errorf("our logits are %.2g away from torchvision's", d)
		}
		return nil
	})
}

func TestSaveAndLoadKeepEverything(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.safetensors")
	want := Description{
		Arch: "preact_resnet18", Stem: StemSmall, Classes: []string{"ape", "bee", "cat"},
		Height: 8, Width: 9, Channels: 1, Mean: []float32{.1, .2, .3}, Std: []float32{.4, .5, .6},
	}
	torchtest.Run(t, func(e *torch.Engine) error {
		m, err := New(e, Config{Arch: want.Arch, Stem: want.Stem, Classes: 3}, torch.CPU, false, 3, "test")
		if err != nil {
			return err
		}
		defer m.Close()
		if err := Save(file, m, want); err != nil {
			return err
		}
		loaded, d, err := Load(e, file, torch.CPU, false)
		if err != nil {
			return err
		}
		defer loaded.Close()
		if !reflect.DeepEqual(d, want) {
			t.Errorf("description %+v, want %+v", d, want)
		}
		before, err := snapshot(m)
		if err != nil {
			return err
		}
		after, err := snapshot(loaded)
		if err != nil {
			return err
		}
		for name, v := range before {
			if !slices.Equal(after[name], v) {
				t.Errorf("%s changed", name)
			}
		}
		return nil
	})
}
