package cordon_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cordon"
	"cordon/dataset"
	"cordon/report"
)

// tinySet makes n grey 8×8 images of 3 classes that differ in brightness.
func tinySet(n int) *dataset.Set {
	s := &dataset.Set{Name: "tiny", Format: "idx", Classes: []string{"0", "1", "2"}, Height: 8, Width: 8, Channels: 1}
	for i := range n {
		label := i % 3
		s.Labels = append(s.Labels, int32(label))
		for p := range 64 {
			s.Pixels = append(s.Pixels, byte(60*label+(i*31+p*17)%60))
		}
	}
	return s
}

// tinyOptions is a complete run of a few seconds.
func tinyOptions(dir string) cordon.Options {
	r := cordon.DefaultRecipe()
	r.Model.Arch, r.Model.Stem = "resnet18", "small"
	r.Base.Epochs, r.Partial.Epochs, r.Repair.Epochs = 1, 1, 1
	r.Base.Batch, r.Partial.Batch, r.Repair.Batch, r.Repair.IsolatedBatch = 16, 16, 16, 4
	return cordon.Options{Train: tinySet(60), Test: tinySet(30), Recipe: r, Dir: dir, Threads: 2}
}

func needEngine(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, cordon.ErrNoEngine) && os.Getenv("CORDON_REQUIRE_ENGINE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCleanseWritesTheWholeFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r, err := cordon.Cleanse(context.Background(), tinyOptions(dir))
	needEngine(t, err)
	for _, name := range []string{
		"run.json", "recipe.toml", "base.safetensors", "partial.safetensors", "clean.safetensors",
		"losses.csv", "isolated.csv", "retained.csv", "report.json", "report.html", "events.jsonl",
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if r.Isolation.Count != 6 {
		t.Errorf("isolated %d samples of 60, want 6", r.Isolation.Count)
	}
	if len(r.Models) != 4 || r.Models[0].ACC == nil || r.Models[0].ASR != nil {
		t.Errorf("models: %+v", r.Models)
	}
	finishedRunIsKept(t, dir, r)
}

// finishedRunIsKept: a second call returns the report, with what eval added.
func finishedRunIsKept(t *testing.T, dir string, r *report.Report) {
	t.Helper()
	r.Truth = &report.Truth{Attack: "known", Target: 1}
	if err := r.Write(filepath.Join(dir, "report.json")); err != nil {
		t.Fatal(err)
	}
	again, err := cordon.Cleanse(context.Background(), tinyOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	if again.Truth == nil || again.Truth.Attack != "known" || !again.Finished.Equal(r.Finished) {
		t.Errorf("truth %v, finished %v, want those of %v", again.Truth, again.Finished, r.Finished)
	}
}

// A run whose log of events cannot be written says so.
func TestCleanseNoRoomForEvents(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no device that is always full here")
	}
	dir := filepath.Join(t.TempDir(), "run")
	begin := func() error {
		ctx, cancel := context.WithCancel(t.Context())
		opt := tinyOptions(dir)
		opt.Events = onEvent(cancel)
		_, err := cordon.Cleanse(ctx, opt)
		return err
	}
	if err := begin(); !errors.Is(err, context.Canceled) {
		needEngine(t, err)
	}
	log := filepath.Join(dir, "events.jsonl")
	if err := errors.Join(os.Remove(log), os.Symlink("/dev/full", log)); err != nil {
		t.Fatal(err)
	}
	if err := begin(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
}

// onEvent calls a function at every event.
type onEvent func()

func (f onEvent) Send(cordon.Event) { f() }

func TestCleanseStopsWhileItHashes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	opt := tinyOptions(filepath.Join(t.TempDir(), "run"))
	_, err := cordon.Cleanse(ctx, opt)
	if !errors.Is(err, context.Canceled) {
		needEngine(t, err)
		t.Error("a cancelled run went on")
	}
	if _, err := os.Stat(opt.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
}

func TestValidateRefusesAnEmptyTestSet(t *testing.T) {
	opt := tinyOptions("run")
	opt.Test = tinySet(0)
	if err := opt.Validate(); err == nil {
		t.Error("accepted")
	}
}
