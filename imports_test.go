package cordon_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// reached returns, for every package of the module, the packages of the module
// that it depends on, itself included. Names are without "cordon/"; the root
// package is "cordon".
func reached(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var own []string
		for _, path := range strings.Fields(line) {
			name := strings.TrimPrefix(path, "cordon/")
			if path == "cordon" || name != path {
				own = append(own, name)
			}
		}
		deps[own[0]] = own
	}
	return deps
}

// TestDefensesAreBlind: whatever package is added, only these reach the attacks
// and the truth.
func TestDefensesAreBlind(t *testing.T) {
	seeing := []string{"attack", "attack/attacktest", "cmd/cordon", "internal/catalog", "internal/evaluation"}
	deps := reached(t)
	for from, reaches := range deps {
		if slices.Contains(reaches, "attack") && !slices.Contains(seeing, from) {
			t.Errorf("%s reaches the attacks and the truth", from)
		}
	}
	for _, from := range seeing {
		if deps[from] == nil {
			t.Errorf("no package %s: correct the rule", from)
		}
	}
}

// TestImportsPointOneWay enforces the rules of the architecture: a defense is
// blind to the truth, and what needs no engine does not depend on it.
func TestImportsPointOneWay(t *testing.T) {
	deps := reached(t)
	for _, rule := range []struct{ from, never []string }{
		{
			[]string{"cordon", "internal/defense", "internal/repair", "internal/isolate", "internal/train", "internal/nn", "internal/rundir"},
			[]string{"attack", "internal/evaluation", "internal/catalog"},
		},
		{
			[]string{"dataset", "attack", "internal/isolate", "internal/metric", "internal/recipe", "internal/event", "internal/safetensors", "internal/inspect", "internal/fetch", "report"},
			[]string{"internal/torch"},
		},
		{
			[]string{"internal/nn"},
			[]string{"internal/train", "internal/defense", "cordon"},
		},
		{
			[]string{"internal/train"},
			[]string{"internal/defense", "internal/repair", "cordon"},
		},
	} {
		for _, from := range rule.from {
			if deps[from] == nil {
				t.Errorf("no package %s: correct the rule", from)
			}
			for _, to := range rule.never {
				if slices.Contains(deps[from], to) {
					t.Errorf("%s depends on %s", from, to)
				}
				if deps[to] == nil {
					t.Errorf("no package %s: correct the rule", to)
				}
			}
		}
	}
}

// TestImportsOnly lists packages that may reach nothing but the named ones.
func TestImportsOnly(t *testing.T) {
	deps := reached(t)
	for from, allowed := range map[string][]string{
		"attack":              {"dataset", "internal/seed", "internal/atomicfile", "internal/printable", "internal/regular"},
		"dataset":             {"internal/seed", "internal/atomicfile", "internal/printable"},
		"internal/torch":      {},
		"internal/event":      {"internal/printable"},
		"internal/fetch":      {"internal/atomicfile", "internal/event", "internal/printable", "internal/regular"},
		"internal/inspect":    {"dataset", "internal/seed", "internal/atomicfile", "internal/printable"},
		"internal/recipe":     {"internal/regular"},
		"internal/atomicfile": {},
		"internal/printable":  {},
	} {
		if deps[from] == nil {
			t.Errorf("no package %s: correct the rule", from)
		}
		for _, to := range deps[from] {
			if to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s depends on %s", from, to)
			}
		}
	}
}

// TestNoCgo keeps C out of the Go packages: the engine is loaded at run time.
func TestNoCgo(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", `{{if .CgoFiles}}{{.ImportPath}}{{end}}`, "./...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if found := strings.Fields(string(out)); len(found) > 0 {
		t.Errorf("packages with cgo: %v", found)
	}
}
