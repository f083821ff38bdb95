// Package torchtest gives tests of other packages an open engine.
package torchtest

import (
	"context"
	"errors"
	"os"
	"testing"

	"cordon/internal/torch"
)

// Open opens the engine with two threads until the test ends. Where there is no
// engine it skips the test, or fails it if CORDON_REQUIRE_ENGINE is set.
func Open(t testing.TB) *torch.Engine {
	t.Helper()
	return OpenThreads(t, 2)
}

// OpenThreads is Open with another number of threads, 0 for one per processor.
func OpenThreads(t testing.TB, threads int) *torch.Engine {
	t.Helper()
	e := open(t, threads)
	t.Cleanup(e.Close)
	return e
}

// Run runs f on the engine's thread and checks that no tensor is left alive. f
// must not call t.Fatal, which would end the engine's thread: it returns errors.
// The engine is closed before Run returns, so that Run can be called again.
func Run(t testing.TB, f func(e *torch.Engine) error) {
	t.Helper()
	e := open(t, 2)
	defer e.Close()
	err := e.Do(context.Background(), func() error {
		err := f(e)
		if n := e.Live(); n != 0 {
			t.Errorf("%d tensors left alive", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, threads int) *torch.Engine {
	t.Helper()
	e, err := torch.Open(torch.Options{Threads: threads})
	if errors.Is(err, torch.ErrNoEngine) && os.Getenv("CORDON_REQUIRE_ENGINE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}
