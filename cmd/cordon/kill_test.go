package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cordon/internal/atomicfile"
	"cordon/internal/rundir"
)

// kills is how many times runs are killed in all.
const kills = 5

// tinyRun are the settings of a run of a few seconds with several steps a
// stage, which saves its state often.
var tinyRun = []string{
	"--checkpoint-every", "200ms", "--seed", "1",
	"--set", "model.arch=resnet18",
	"--set", "base.epochs=3", "--set", "base.batch=16", "--set", "base.score_epochs=true",
	"--set", "partial.epochs=2", "--set", "partial.batch=16",
	"--set", "repair.epochs=2", "--set", "repair.batch=16", "--set", "repair.isolated_batch=4",
}

// TestKilledRunsEndTheSame kills runs with SIGKILL at random moments, continues
// them, and compares every result with an uninterrupted run's, bit for bit.
func TestKilledRunsEndTheSame(t *testing.T) {
	needEngine(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if out, err := exec.Command("mkdata", "-train", "64", data).CombinedOutput(); err != nil {
		t.Fatalf("mkdata: %v: %s", err, out)
	}
	whole := filepath.Join(dir, "whole")
	began := time.Now()
	if _, killed := cleanFor(t, data, whole, time.Hour); killed {
		t.Fatal("the uninterrupted run was killed")
	}
	length := time.Since(began)
	want := results(t, whole)

	killed := 0
	for run := 0; killed < kills && run < 3*kills; run++ {
		folder := filepath.Join(dir, fmt.Sprint("killed", run))
		for finished := false; !finished; {
			after := time.Hour
			if killed < kills {
				after = time.Duration((0.1 + 0.5*rand.Float64()) * float64(length))
			}
			progress, died := cleanFor(t, data, folder, after)
			if died {
				killed++
				t.Logf("killed after %v: %s", after.Round(time.Millisecond), progress)
			} else {
				length = min(length, after) // the machine has become less busy
			}
			finished = !died
		}
		compare(t, folder, want, results(t, folder))
		os.RemoveAll(folder)
	}
	if killed < kills {
		t.Errorf("only %d runs were killed before they ended", killed)
	}
}

// cleanFor runs cordon clean and kills it after a time. It returns the last
// line of progress and whether the run was killed.
func cleanFor(t *testing.T, data, folder string, after time.Duration) (progress string, killed bool) {
	t.Helper()
	cmd := exec.Command("cordon", append([]string{"clean", data, "-o", folder}, tinyRun...)...)
	cmd.Env = append(cmd.Environ(), "CORDON_ENGINE="+library(t))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", false
	case errors.As(err, &exit) && exit.ExitCode() == -1: // by a signal
		return lines[len(lines)-1], true
	}
	t.Fatalf("cordon clean: %v\n%s", err, said.String())
	return "", false
}

// results reads every result file of a run; the report without what depends on
// the clock.
func results(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		if atomicfile.IsTemporary(d.Name()) {
			t.Errorf("%s was left behind", path)
		}
		switch filepath.Ext(name) {
		case ".safetensors", ".csv", ".f32", ".toml":
			files[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{rundir.BaseModel, rundir.PartialModel, rundir.CleanModel, rundir.LossesFile, rundir.IsolatedFile, rundir.RetainedFile} {
		if files[name] == nil {
			t.Fatalf("%s: no %s", folder, name)
		}
	}
	files[rundir.ReportJSON] = timeless(t, filepath.Join(folder, rundir.ReportJSON))
	return files
}

// timeless reads a report without times and memory.
func timeless(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	delete(r, "started")
	delete(r, "finished")
	delete(r["machine"].(map[string]any), "peak_resident")
	for _, s := range r["stages"].([]any) {
		delete(s.(map[string]any), "seconds")
		delete(s.(map[string]any), "images_per_second")
	}
	out, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compare(t *testing.T, folder string, want, got map[string][]byte) {
	t.Helper()
	for name := range want {
		if !bytes.Equal(want[name], got[name]) {
			t.Errorf("%s: %s differs from the uninterrupted run's", folder, name)
		}
	}
	for name := range got {
		if want[name] == nil {
			t.Errorf("%s: %s is not in the uninterrupted run", folder, name)
		}
	}
}
