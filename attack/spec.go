package attack

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Spec names an attack with its parameters as text, the form they have on a
// command line and in a truth file.
type Spec struct {
	Name   string            `json:"name"`
	Params map[string]string `json:"params"`
}

// String returns the name and the parameters, in the order of their names.
func (s Spec) String() string {
	text := s.Name
	for _, name := range slices.Sorted(maps.Keys(s.Params)) {
		text += " " + name + "=" + s.Params[name]
	}
	return text
}

// SpecOf returns the spec of a with every parameter, defaults too, so that it
// means the same when a later version has other defaults.
func SpecOf(a Attack) Spec {
	params := map[string]string{}
	flagsOf(a).VisitAll(func(f *flag.Flag) { params[f.Name] = f.Value.String() })
	return Spec{Name: a.Name(), Params: params}
}

// Param is a parameter of an attack, for people.
type Param struct{ Name, Value, Meaning string }

// Params lists the parameters of a by name, with their present values.
func Params(a Attack) []Param {
	var params []Param
	flagsOf(a).VisitAll(func(f *flag.Flag) { params = append(params, Param{f.Name, f.Value.String(), f.Usage}) })
	return params
}

// Configure sets the named parameters of a and validates it. Unknown names,
// values that do not parse and values out of range are errors, after which a
// should not be used.
func Configure(a Attack, params map[string]string) error {
	fs := flagsOf(a)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if fs.Lookup(name) == nil {
			return fmt.Errorf("attack %s has no parameter %q (it has %s)",
				a.Name(), name, strings.Join(paramNames(fs), ", "))
		}
		if err := fs.Set(name, params[name]); err != nil {
			return fmt.Errorf("attack %s: parameter %s=%q: %w%s", a.Name(), name, params[name], err, wanted(fs.Lookup(name)))
		}
	}
	return a.Validate()
}

// wanted names the type of a number, which package flag's errors do not.
func wanted(f *flag.Flag) string {
	value, ok := f.Value.(flag.Getter)
	if !ok {
		return ""
	}
	switch value.Get().(type) {
	case int:
		return ", want a whole number"
	case uint64:
		return ", want a whole number from 0 on"
	case float64:
		return ", want a number"
	}
	return ""
}

// flagsOf binds the parameters of a. A flag set is the standard library's
// table of named, typed, documented values; no command line is parsed here.
func flagsOf(a Attack) *flag.FlagSet {
	fs := flag.NewFlagSet(a.Name(), flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	a.Params(fs)
	return fs
}

func paramNames(fs *flag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return names
}

// oneOf refuses a value that is not in the list.
func oneOf(what, value string, valid ...string) error {
	if slices.Contains(valid, value) {
		return nil
	}
	return fmt.Errorf("%s %q: must be %s", what, value, strings.Join(valid, ", "))
}
