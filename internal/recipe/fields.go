package recipe

import (
	"fmt"
	"math"
	"reflect"
	"strings"
)

// field is one setting of a recipe: its dotted TOML key and its place.
type field struct {
	key   string // "base.learning_rate"
	value reflect.Value
}

// fields lists every setting in the order of the struct. Embedded structs
// belong to the section that embeds them, as in TOML.
func (r *Recipe) fields() []field {
	return appendFields(nil, "", reflect.ValueOf(r).Elem())
}

func appendFields(list []field, prefix string, v reflect.Value) []field {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := prefix + f.Tag.Get("toml")
		switch {
		case f.Anonymous:
			list = appendFields(list, prefix, v.Field(i))
		case f.Type.Kind() == reflect.Struct:
			list = appendFields(list, key+".", v.Field(i))
		default:
			list = append(list, field{key, v.Field(i)})
		}
	}
	return list
}

// lookup finds a setting by its exact key.
func (r *Recipe) lookup(key string) (field, error) {
	fields := r.fields()
	nearest, best := "", math.MaxInt
	for _, f := range fields {
		if f.key == key {
			return f, nil
		}
		if d := distance(key, f.key); d < best {
			nearest, best = f.key, d
		}
	}
	reason := "unknown key"
	if best <= len(nearest)/3 {
		reason += fmt.Sprintf(" (did you mean %s?)", nearest)
	}
	return field{}, &Error{Key: key, Reason: reason}
}

// assign stores a value as a TOML parser gives it. It never rounds.
func (f field) assign(v any) error {
	switch f.value.Kind() {
	case reflect.String:
		if s, ok := v.(string); ok {
			f.value.SetString(s)
			return nil
		}
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			f.value.SetBool(b)
			return nil
		}
	case reflect.Int:
		if n, ok := v.(int64); ok && !f.value.OverflowInt(n) {
			f.value.SetInt(n)
			return nil
		}
	case reflect.Uint64:
		if n, ok := v.(int64); ok && n >= 0 {
			f.value.SetUint(uint64(n))
			return nil
		}
	case reflect.Float64:
		switch n := v.(type) {
		case float64:
			f.value.SetFloat(n)
			return nil
		case int64:
			f.value.SetFloat(float64(n))
			return nil
		}
	}
	return &Error{Key: f.key, Reason: fmt.Sprintf("is %v, want %s", quoted(v), f.kind())}
}

// kind names what the setting takes, for people.
func (f field) kind() string {
	switch f.value.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "an integer"
	case reflect.Uint64:
		return "an integer from 0 to 2^63-1"
	default:
		return "a number"
	}
}

func quoted(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%.60q", s)
	}
	return fmt.Sprint(v)
}

// distance is the Levenshtein distance of two keys, math.MaxInt for a key so
// long that it cannot be a misspelling.
func distance(a, b string) int {
	if len(a) > 100 {
		return math.MaxInt
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
