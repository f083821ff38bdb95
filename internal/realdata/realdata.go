// Package realdata finds the real image sets that tests look at.
package realdata

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder of a set, unpacked: DATA/mnist, DATA/cifar10 or DATA/tsrd,
// where DATA is CORDON_DATA or shared/data beside the project. Where there is none it
// skips the test, or fails it if CORDON_REQUIRE_DATA is set.
func Dir(t testing.TB, name string) string {
	t.Helper()
	for _, base := range []string{os.Getenv("CORDON_DATA"), shared()} {
		dir := filepath.Join(base, name)
		if info, err := os.Stat(dir); base != "" && err == nil && info.IsDir() {
			return dir
		}
	}
	if os.Getenv("CORDON_REQUIRE_DATA") != "" {
		t.Fatalf("no %s in CORDON_DATA", name)
	}
	t.Skipf("no %s: set CORDON_DATA to a folder that holds %s unpacked", name, name)
	return ""
}

// shared is shared/data beside the folder that go.mod lies in, above the test's own.
func shared() string {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "..", "shared", "data")
		}
		dir = filepath.Dir(dir)
	}
	return ""
}
