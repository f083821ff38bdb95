package nn

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cordon/internal/safetensors"
	"cordon/internal/torch"
)

// Description is what a model file says beside the weights: how to build the
// network and how to feed it.
type Description struct {
	Arch    string   `json:"arch"`
	Stem    string   `json:"stem"`
	Classes []string `json:"classes"` // names, in the order of the logits
	// Height and Width of the images it was trained on, and their channels
	// before a single grey channel was repeated.
	Height   int `json:"height"`
	Width    int `json:"width"`
	Channels int `json:"channels"`
	// Mean and Std normalise each channel's value/255.
	Mean []float32 `json:"mean"`
	Std  []float32 `json:"std"`
}

// Metadata keys and names of a model file. The counters are PyTorch's; they
// let it load the file strictly and mean nothing here.
const (
	descriptionKey = "cordon"
	counterName    = "num_batches_tracked"
)

// ImageNetMean and ImageNetStd are torchvision's constants, assumed for files
// that do not say what they were trained with.
var (
	ImageNetMean = []float32{0.485, 0.456, 0.406}
	ImageNetStd  = []float32{0.229, 0.224, 0.225}
)

// Tensor wraps float32 values for a file.
func Tensor(name string, shape []int, values []float32) safetensors.Tensor {
	dims := make([]int64, len(shape))
	for i, d := range shape {
		dims[i] = int64(d)
	}
	return safetensors.FromFloat32(name, dims, values)
}

// Tensors copies a model's state dictionary for a file, names prefixed.
func Tensors(m *Model, prefix string) ([]safetensors.Tensor, error) {
	var out []safetensors.Tensor
	for _, p := range m.params {
		values, err := m.Read(p)
		if err != nil {
			return nil, err
		}
		out = append(out, Tensor(prefix+p.Name, p.Shape, values))
	}
	return out, nil
}

// ReadTensors overwrites a model's state dictionary from a file whose names
// are prefixed. Every parameter must be there with its shape.
func ReadTensors(m *Model, f *safetensors.File, prefix string) error {
	return readSome(m, f, prefix, func(*Param) bool { return true })
}

// LoadNorms overwrites a model's batch norm statistics by those that SaveNorms
// stored.
func LoadNorms(path string, m *Model) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return fmt.Errorf("open batch norm statistics: %w", err)
	}
	defer f.Close()
	if err := readSome(m, f, "", func(p *Param) bool { return p.Buffer }); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readSome(m *Model, f *safetensors.File, prefix string, wanted func(*Param) bool) error {
	for _, p := range m.params {
		if !wanted(p) {
			continue
		}
		if err := p.fits(f, prefix+p.Name); err != nil {
			return err
		}
		values, err := f.Float32s(prefix + p.Name)
		if err != nil {
			return err
		}
		if err := m.Write(p, values); err != nil {
			return err
		}
	}
	return nil
}

// fits checks that a file's tensor has the parameter's shape.
func (p *Param) fits(f *safetensors.File, name string) error {
	shape, err := f.Shape(name)
	if err == nil && !sameShape(shape, p.Shape) {
		err = fmt.Errorf("tensor %q has shape %v, the network needs %v", name, shape, p.Shape)
	}
	return err
}

func sameShape(a []int64, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != int64(b[i]) {
			return false
		}
	}
	return true
}

// Save writes a model file: torchvision's state dictionary as safetensors.
func Save(path string, m *Model, d Description) error {
	tensors, err := Tensors(m, "")
	if err != nil {
		return err
	}
	for _, p := range m.params {
		if layer, ok := strings.CutSuffix(p.Name, "running_var"); ok {
			tensors = append(tensors, safetensors.FromInt64(layer+counterName, nil, []int64{0}))
		}
	}
	return write(path, tensors, d)
}

// SaveNorms writes only the batch norm statistics.
func SaveNorms(path string, m *Model, d Description) error {
	var norms []safetensors.Tensor
	for _, p := range m.params {
		if !p.Buffer {
			continue
		}
		values, err := m.Read(p)
		if err != nil {
			return err
		}
		norms = append(norms, Tensor(p.Name, p.Shape, values))
	}
	return write(path, norms, d)
}

func write(path string, tensors []safetensors.Tensor, d Description) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode model description: %w", err)
	}
	// "format" is what Python's transformers and torch loaders look for.
	return safetensors.Write(path, tensors, map[string]string{descriptionKey: string(text), "format": "pt"})
}

// Load builds the network that a model file holds. A file without cordon's
// description (from torchvision, say) is recognised by its tensors; its classes
// are then numbered and its images taken to be normalised as torchvision's.
func Load(e *torch.Engine, path string, dev torch.Device, bf16 bool) (*Model, Description, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, Description{}, fmt.Errorf("open model: %w", err)
	}
	defer f.Close()
	d, err := describe(f)
	if err != nil {
		return nil, Description{}, fmt.Errorf("%s: %w", path, err)
	}
	// First by the header alone: what a description makes up must not cost memory.
	cfg := Config{Arch: d.Arch, Stem: d.Stem, Classes: len(d.Classes)}
	if err := fits(cfg, f); err != nil {
		return nil, Description{}, fmt.Errorf("%s: %w", path, err)
	}
	m, err := newModel(e, cfg, dev, bf16, nil)
	if err != nil {
		return nil, Description{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := ReadTensors(m, f, ""); err != nil {
		m.Close()
		return nil, Description{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, d, nil
}

// describe reads the description of a model file, or infers one.
func describe(f *safetensors.File) (Description, error) {
	text, ok := f.Metadata()[descriptionKey]
	if !ok {
		return infer(f)
	}
	var d Description
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("bad description: %w", err)
	}
	if len(d.Mean) != Channels || len(d.Std) != Channels {
		return d, fmt.Errorf("bad description: %d channel means, %d deviations, want %d", len(d.Mean), len(d.Std), Channels)
	}
	for _, s := range d.Std {
		if !(s > 0) {
			return d, fmt.Errorf("bad description: channel deviation %v", s)
		}
	}
	return d, nil
}

// infer finds the network whose state dictionary has the file's names and shapes.
func infer(f *safetensors.File) (Description, error) {
	head, err := f.Shape("fc.bias")
	if err != nil || len(head) != 1 || head[0] < 2 || head[0] > 1<<20 {
		return Description{}, fmt.Errorf("not one of the networks that cordon knows: no usable fc.bias")
	}
	classes := make([]string, head[0])
	for i := range classes {
		classes[i] = fmt.Sprint(i)
	}
	for _, a := range Archs() {
		for _, stem := range []string{StemImageNet, StemSmall} {
			if fits(Config{Arch: a, Stem: stem, Classes: len(classes)}, f) == nil {
				return Description{Arch: a, Stem: stem, Classes: classes, Mean: ImageNetMean, Std: ImageNetStd}, nil
			}
		}
	}
	return Description{}, fmt.Errorf("not one of the networks that cordon knows (%s)", strings.Join(Archs(), ", "))
}

// fits checks that a file holds the state dictionary of a network and nothing else.
func fits(cfg Config, f *safetensors.File) error {
	m := &Model{Config: cfg}
	if _, err := build(&builder{model: m}, cfg); err != nil {
		return err
	}
	for _, p := range m.params {
		if err := p.fits(f, p.Name); err != nil {
			return err
		}
	}
	names := slices.DeleteFunc(f.Names(), func(name string) bool { return strings.HasSuffix(name, counterName) })
	if len(names) != len(m.params) {
		return fmt.Errorf("has %d tensors, %s has %d", len(names), cfg.Arch, len(m.params))
	}
	return nil
}
