package recipe

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"cordon/internal/regular"
)

// maxSize limits a recipe file; a complete one is about 1 kB.
const maxSize = 64 << 10

// Error says which setting is wrong and why.
type Error struct {
	Key    string // the dotted TOML key, empty where the text is not TOML
	Reason string // lower-case, with the value and what is allowed
}

// Error implements error.
func (e *Error) Error() string {
	if e.Key == "" {
		return "recipe: " + e.Reason
	}
	return "recipe: " + e.Key + ": " + e.Reason
}

// Default returns the recipe that is used where nothing else is said. Its
// choices, where the paper is silent, are METHOD's; docs/method.md lists them.
func Default() Recipe {
	base := Train{
		Epochs: 10, Batch: 128,
		LearningRate: 0.01, Momentum: 0.9, WeightDecay: 5e-4,
		Schedule: "one-cycle", StepFactor: 0.1,
	}
	partial := base
	partial.Epochs, partial.ScoreEpochs = 3, true
	repair := base
	repair.LearningRate, repair.Schedule = 1e-3, "constant"
	return Recipe{
		Model: Model{Arch: "resnet50", Stem: "imagenet", Precision: "auto"},
		Data:  Data{Normalize: "dataset"},
		Base:  base,
		Partial: Partial{
			Train:          partial,
			FrozenFraction: 0.1, FrozenUnit: "layers", FrozenInit: "random", FrozenNorm: "batch",
		},
		Isolate: Isolate{
			Ranking: "loss", Model: "partial", Scope: "all", Epochs: "last", ScoreNorm: "recalibrated",
			Selection: "rate", Rate: 0.1,
		},
		Repair: Repair{
			Method: "joint", Train: repair,
			IsolatedLearningRate: 1e-4, IsolatedBatch: 64, Objective: "unlikelihood", Bound: 1, RetainedBound: 1, IsolatedNorm: "shared",
			FinetuneEpochs: 1, FinetuneLearningRate: 1e-4,
		},
	}
}

// Read returns the recipe in a TOML file; see Parse. Errors name the file.
func Read(path string) (Recipe, error) {
	file, err := regular.Open(path)
	if err != nil {
		return Recipe{}, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return Recipe{}, err
	}
	r, err := Parse(text)
	if err != nil {
		return Recipe{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Parse reads a recipe from TOML. Settings that the text does not name keep
// their defaults; unknown keys, wrong types and values out of range are an
// *Error.
func Parse(text []byte) (Recipe, error) {
	if len(text) > maxSize {
		return Recipe{}, &Error{Reason: fmt.Sprintf("is larger than %d bytes", maxSize)}
	}
	var document map[string]any
	if err := toml.Unmarshal(text, &document); err != nil {
		return Recipe{}, syntaxError(err)
	}
	r := Default()
	if err := r.assign("", document); err != nil {
		return Recipe{}, err
	}
	if err := r.Validate(); err != nil {
		return Recipe{}, err
	}
	return r, nil
}

func syntaxError(err error) error {
	reason := strings.TrimPrefix(err.Error(), "toml: ")
	if at := new(toml.DecodeError); errors.As(err, &at) {
		line, _ := at.Position()
		reason = fmt.Sprintf("line %d: %s", line, reason)
	}
	return &Error{Reason: reason}
}

// assign stores a table's values. Keys are compared exactly, in sorted order
// so that the same text always gives the same error.
func (r *Recipe) assign(prefix string, table map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		key := prefix + name
		if sub, ok := table[name].(map[string]any); ok && r.isSection(key) {
			if err := r.assign(key+".", sub); err != nil {
				return err
			}
			continue
		}
		if strings.Contains(name, ".") { // a quoted dot is no section
			return &Error{Key: key, Reason: "unknown key"}
		}
		f, err := r.lookup(key)
		if err != nil {
			return err
		}
		if err := f.assign(table[name]); err != nil {
			return err
		}
	}
	return nil
}

// isSection tells whether some setting's key begins with the section's name.
func (r *Recipe) isSection(name string) bool {
	return slices.ContainsFunc(r.fields(), func(f field) bool {
		return strings.HasPrefix(f.key, name+".")
	})
}

// Set changes one setting, given as "base.learning_rate=0.05"; strings need
// no quotes. It checks the key and the type; call Validate after the last Set.
func (r *Recipe) Set(setting string) error {
	key, text, found := strings.Cut(setting, "=")
	key, text = strings.TrimSpace(key), strings.TrimSpace(text)
	if !found {
		return &Error{Key: key, Reason: "has no value, want key=value"}
	}
	f, err := r.lookup(key)
	if err != nil {
		return err
	}
	return f.assign(f.scan(text))
}

// scan reads a flag's text as a value of the setting's type, or leaves it a
// string, which assign then refuses.
func (f field) scan(text string) any {
	switch f.value.Kind() {
	case reflect.Bool:
		if text == "true" || text == "false" {
			return text == "true"
		}
	case reflect.Int, reflect.Uint64:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case reflect.Float64:
		if x, err := strconv.ParseFloat(text, 64); err == nil {
			return x
		}
	case reflect.String:
		if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[0] == text[n-1] {
			return text[1 : n-1]
		}
	}
	return text
}

// Encode returns the whole recipe as TOML, one setting a line in a fixed
// order. Parse reads a valid recipe back without loss.
func (r Recipe) Encode() []byte {
	var b bytes.Buffer
	section := ""
	for _, f := range r.fields() {
		name := f.key
		if s, rest, inSection := strings.Cut(f.key, "."); inSection {
			if s != section {
				fmt.Fprintf(&b, "\n[%s]\n", s)
				section = s
			}
			name = rest
		}
		fmt.Fprintf(&b, "%s = %s\n", name, f.text())
	}
	return b.Bytes()
}

// text writes the setting's value as TOML.
func (f field) text() string {
	switch f.value.Kind() {
	case reflect.String:
		return strconv.Quote(f.value.String())
	case reflect.Float64:
		s := strconv.FormatFloat(f.value.Float(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".eNI") {
			s += ".0" // a float stays one
		}
		return s
	default:
		return fmt.Sprint(f.value.Interface())
	}
}

// Hash identifies the resolved recipe: the SHA-256 of Encode, in hexadecimal.
func (r Recipe) Hash() string {
	sum := sha256.Sum256(r.Encode())
	return hex.EncodeToString(sum[:])
}
