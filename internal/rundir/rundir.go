// Package rundir lays out the folder that holds one run: what it was made
// from, its results, and what an interrupted run needs to go on.
//
// Everything is written to a temporary name, synced and renamed, so a file that
// exists is whole. A stage is finished when its mark exists; the mark is the
// last thing a stage writes.
package rundir

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"cordon/internal/atomicfile"

	"golang.org/x/sys/unix"
)

// The files of a run folder.
const (
	ManifestFile = "run.json"               // what the run is made from
	RecipeFile   = "recipe.toml"            // as resolved
	BaseModel    = "base.safetensors"       // M_s
	PartialModel = "partial.safetensors"    // M′
	CleanModel   = "clean.safetensors"      // M_c
	BaseNorms    = "base-norms.safetensors" // M_s's batch norm statistics recomputed over D
	CleanNorms   = "clean-norms.safetensors"
	LossesFile   = "losses.csv"
	IsolatedFile = "isolated.csv"
	RetainedFile = "retained.csv"
	ReportJSON   = "report.json"
	ReportHTML   = "report.html"
	EventsFile   = "events.jsonl"
	workDir      = "work" // marks, checkpoints, scores per epoch

)

// The models whose sample losses are kept.
const (
	Base    = "base"    // M_s
	Partial = "partial" // M′
)

// Manifest says what a run is made from. A folder only continues a run with an
// equal manifest, so that its result is the uninterrupted run's.
type Manifest struct {
	Version     int    `json:"version"`
	Tool        string `json:"tool"`        // cordon's version
	Method      string `json:"method"`      // the defense
	RecipeHash  string `json:"recipe_hash"` // of the recipe as resolved
	Seed        uint64 `json:"seed"`
	Data        string `json:"data"` // the set's name
	Fingerprint string `json:"fingerprint"`
	// TestFingerprint is empty where there is no test split.
	TestFingerprint string `json:"test_fingerprint"`
	Torch           string `json:"torch"` // libtorch's version
	Engine          string `json:"engine"`
	Device          string `json:"device"`
	CPU             string `json:"cpu"` // another one may have other kernels, hence other bits
	Threads         int    `json:"threads"`
}

// ManifestVersion is the version of the manifest and of the folder's layout.
const ManifestVersion = 1

// Dir is a run folder.
type Dir struct {
	path string
	lock *os.File // nil where the folder was opened for reading
}

// Open makes the folder of a run, or continues the one that is there if its
// manifest is equal. A folder that holds something else is refused.
func Open(path string, m Manifest) (*Dir, error) {
	d := &Dir{path: path}
	m.Version = ManifestVersion
	// Before anything is made in a folder of something else, and once nobody
	// else can make the run.
	if _, err := d.holds(m); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.Path(workDir), 0o755); err != nil {
		return nil, err
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	if err := d.prepare(m); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// acquire keeps other processes from working in the folder until Close.
func (d *Dir) acquire() error {
	f, err := os.OpenFile(d.Path(filepath.Join(workDir, "lock")), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		d.lock = f
		return nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: another process is working in this folder", d.path)
	}
	return fmt.Errorf("lock %s: %w", f.Name(), err)
}

// prepare makes the folder, which nobody else works in, ready for the run.
func (d *Dir) prepare(m Manifest) error {
	there, err := d.holds(m)
	if err != nil {
		return err
	}
	// Killed processes leave temporaries, which are as large as models.
	if err := errors.Join(atomicfile.Sweep(d.path, "*"), atomicfile.Sweep(d.Path(workDir), "*")); err != nil {
		return err
	}
	if there {
		return nil
	}
	return d.WriteJSON(ManifestFile, m)
}

// Close lets other processes work in the folder.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}

// ErrUnfinished says that a run has not come to its report.
var ErrUnfinished = errors.New("the run is not finished")

// Finished returns the folder of a run that has its report.
func Finished(path string) (*Dir, Manifest, error) {
	d := &Dir{path: path}
	m, err := ReadManifest(path)
	if err != nil {
		return nil, m, fmt.Errorf("%s is not the folder of a run: %w", path, err)
	}
	if !d.Has(ReportJSON) {
		return nil, m, fmt.Errorf("%s: %w", path, ErrUnfinished)
	}
	return d, m, nil
}

// ReadManifest reads the manifest in a run folder.
func ReadManifest(path string) (Manifest, error) {
	var m Manifest
	err := readJSON(filepath.Join(path, ManifestFile), &m)
	if err == nil && m.Version != ManifestVersion {
		err = fmt.Errorf("%s: version %d of the run folder, this program knows %d", path, m.Version, ManifestVersion)
	}
	return m, err
}

// holds reports whether the folder has the run of a manifest, or nothing yet;
// anything else is an error.
func (d *Dir) holds(m Manifest) (bool, error) {
	old, err := ReadManifest(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, d.empty()
	}
	if err != nil {
		return false, err
	}
	if field := difference(old, m); field != "" {
		return false, fmt.Errorf("%s holds a run with another %s; name another folder for this one", d.path, field)
	}
	return true, nil
}

// empty refuses a folder with files of others. Where cordon was killed before
// the run had its manifest there may be the work folder and temporaries.
func (d *Dir) empty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	foreign := func(e fs.DirEntry) bool { return e.Name() != workDir && !atomicfile.IsTemporary(e.Name()) }
	if slices.ContainsFunc(entries, foreign) {
		return fmt.Errorf("%s is not empty and holds no run", d.path)
	}
	return nil
}

// difference names the first field in which two manifests differ.
func difference(a, b Manifest) string {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if x.Field(i).Interface() != y.Field(i).Interface() {
			return x.Type().Field(i).Tag.Get("json")
		}
	}
	return ""
}

// Path returns the path of a file in the folder.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Checkpoint is where a stage in progress saves its state.
func (d *Dir) Checkpoint(stage string) string {
	return filepath.Join(d.path, workDir, stage+".checkpoint.safetensors")
}

// Has reports whether a file of the folder exists.
func (d *Dir) Has(name string) bool {
	_, err := os.Stat(d.Path(name))
	return err == nil
}

// Write stores a file of the folder.
func (d *Dir) Write(name string, write func(io.Writer) error) error {
	return atomicfile.Write(d.Path(name), write)
}

// WriteJSON stores v as indented JSON.
func (d *Dir) WriteJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", d.Path(name), err)
	}
	return d.Write(name, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// Mark records that a stage is finished, with what later stages and the report
// need of it.
func (d *Dir) Mark(stage string, v any) error {
	return d.WriteJSON(filepath.Join(workDir, stage+".json"), v)
}

// Marked reads the mark of a stage into v and reports whether it is finished.
func (d *Dir) Marked(stage string, v any) (bool, error) {
	err := readJSON(d.Path(filepath.Join(workDir, stage+".json")), v)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// WriteScores stores every sample's loss under a model after an epoch.
func (d *Dir) WriteScores(model string, epoch int, losses []float32) error {
	return d.Write(scoresName(model, epoch), func(w io.Writer) error {
		return binary.Write(w, binary.LittleEndian, losses)
	})
}

// ReadScores reads the losses that WriteScores stored for count samples, one row
// per epoch from 1; an epoch without any is nil. The last one must be there.
func (d *Dir) ReadScores(model string, epochs, count int) ([][]float32, error) {
	out := make([][]float32, epochs)
	for i := range out {
		path := d.Path(scoresName(model, i+1))
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && i+1 < epochs {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sample losses: %w", err)
		}
		if len(data) != 4*count {
			return nil, fmt.Errorf("%s: holds %d bytes, not %d", path, len(data), 4*count)
		}
		out[i] = make([]float32, count)
		for k := range out[i] {
			out[i][k] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*k:]))
		}
	}
	return out, nil
}

func scoresName(model string, epoch int) string {
	return filepath.Join(workDir, fmt.Sprintf("scores-%s-%02d.f32", model, epoch))
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
