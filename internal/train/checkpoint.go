package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"cordon/internal/event"
	"cordon/internal/nn"
	"cordon/internal/safetensors"
)

// Names in a checkpoint: "model/<parameter>", "velocity/<phase>/<parameter>",
// and the state as JSON under this metadata key.
const (
	modelPrefix    = "model/"
	velocityPrefix = "velocity/"
	stateKey       = "state"
)

// save writes everything the job needs to go on, atomically.
func (r *run) save() error {
	if r.Checkpoint == "" {
		return nil
	}
	tensors, err := nn.Tensors(r.Model, modelPrefix)
	if err != nil {
		return err
	}
	for i, o := range r.sgd {
		if o == nil {
			continue
		}
		velocities, err := o.Velocities()
		if err != nil {
			return err
		}
		for _, v := range velocities {
			tensors = append(tensors, nn.Tensor(velocityName(r.Phases[i], v.Name), v.Shape, v.Values))
		}
	}
	now := r.state
	now.Seconds = r.seconds()
	text, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	if err := safetensors.Write(r.Checkpoint, tensors, map[string]string{stateKey: string(text)}); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	r.saved = time.Now()
	return nil
}

func velocityName(p Phase, parameter string) string {
	return velocityPrefix + p.Name + "/" + parameter
}

// restore continues from the checkpoint, if there is one.
func (r *run) restore() error {
	if r.Checkpoint == "" {
		return nil
	}
	f, err := safetensors.Open(r.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	defer f.Close()
	terms := len(r.state.Sums)
	if err := json.Unmarshal([]byte(f.Metadata()[stateKey]), &r.state); err != nil {
		return fmt.Errorf("%s: bad state: %w", r.Checkpoint, err)
	}
	if len(r.state.Sums) != terms || r.state.Phase > len(r.Phases) || r.state.Epoch > r.Epochs {
		return fmt.Errorf("%s: belongs to another training", r.Checkpoint)
	}
	if err := r.restoreTensors(f); err != nil {
		return fmt.Errorf("%s: %w", r.Checkpoint, err)
	}
	r.Events.Send(r.progress(event.Resumed))
	return nil
}

func (r *run) restoreTensors(f *safetensors.File) error {
	if err := nn.ReadTensors(r.Model, f, modelPrefix); err != nil {
		return err
	}
	for i, o := range r.sgd {
		if o == nil {
			continue
		}
		prefix := velocityName(r.Phases[i], "")
		for _, name := range f.Names() {
			parameter, ok := strings.CutPrefix(name, prefix)
			if !ok {
				continue
			}
			values, err := f.Float32s(name)
			if err != nil {
				return err
			}
			if err := o.SetVelocity(parameter, values); err != nil {
				return err
			}
		}
	}
	return nil
}

// DropCheckpoint removes a finished job's checkpoint; none is no error.
func DropCheckpoint(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop checkpoint: %w", err)
	}
	return nil
}
