package torch

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// open gives the engine for one test, or skips the test where there is none.
func open(t *testing.T) *Engine {
	t.Helper()
	return openThreads(t, 2)
}

func openThreads(t testing.TB, threads int) *Engine {
	t.Helper()
	e := openUnclosed(t, threads)
	t.Cleanup(e.Close)
	return e
}

func openUnclosed(t testing.TB, threads int) *Engine {
	t.Helper()
	e, err := Open(Options{Threads: threads})
	if errors.Is(err, ErrNoEngine) && os.Getenv("CORDON_REQUIRE_ENGINE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// inScope runs f in a fresh scope on the engine's thread and checks that
// nothing is left behind.
func inScope(t *testing.T, opt ScopeOptions, f func(s *Scope) error) {
	t.Helper()
	e := open(t)
	err := e.Do(context.Background(), func() error {
		s := e.NewScope(opt)
		err := f(s)
		s.Close()
		if n := e.Live(); n != 0 {
			t.Errorf("%d tensors left alive", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrorsStickAndNameTheCall(t *testing.T) {
	inScope(t, ScopeOptions{Device: CPU}, func(s *Scope) error {
		a := s.Floats(make([]float32, 6), 2, 3)
		b := s.Floats(make([]float32, 20), 4, 5)
		if bad := s.Add(a, b); !bad.None() {
			t.Error("a failed call returned a tensor")
		}
		if after := s.Add(a, a); !after.None() {
			t.Error("a call after the first error returned a tensor")
		}
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "add: ") {
			t.Errorf("error does not name the call: %v", err)
		}
		return nil
	})
}

func TestStaleTensorIsAnError(t *testing.T) {
	e := open(t)
	err := e.Do(context.Background(), func() error {
		s := e.NewScope(ScopeOptions{Device: CPU})
		stale := s.Floats([]float32{1}, 1)
		s.Close()
		s = e.NewScope(ScopeOptions{Device: CPU})
		defer s.Close()
		s.Add(stale, stale)
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "closed scope") {
			t.Errorf("got %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOffTheEngineThreadIsAnError(t *testing.T) {
	e := open(t)
	s := e.NewScope(ScopeOptions{Device: CPU})
	defer s.Close()
	s.Floats([]float32{1}, 1)
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "engine thread") {
		t.Errorf("got %v", err)
	}
}

func TestPanicInDoComesBack(t *testing.T) {
	e := open(t)
	err := e.Do(context.Background(), func() error { panic("boom") })
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}

func TestEachThread(t *testing.T) {
	e := openThreads(t, 3)
	err := e.Do(context.Background(), func() error {
		s := e.NewScope(ScopeOptions{Device: CPU})
		defer s.Close()
		shared := s.Floats([]float32{1, 2, 3}, 3)
		var together sync.WaitGroup
		together.Add(3)
		work := func() error {
			together.Done()
			together.Wait() // three threads at once, or never
			own := e.NewScope(ScopeOptions{Device: CPU})
			defer own.Close()
			sum := make([]float32, 3)
			own.ReadFloats(own.Add(shared, shared), sum)
			if !slices.Equal(sum, []float32{2, 4, 6}) {
				t.Errorf("got %v", sum)
			}
			return own.Err()
		}
		if err := e.EachThread(work); err != nil {
			return err
		}
		together.Add(3)
		if err := e.EachThread(work); err != nil { // by the same threads
			return err
		}
		if err := s.Err(); err != nil {
			return err
		}
		var calls atomic.Int32
		err := e.EachThread(func() error {
			if calls.Add(1) == 2 {
				panic("boom")
			}
			return nil
		})
		if calls.Load() != 3 || err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("a panic in one of %d threads: %v", calls.Load(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// One call may fail to show that the choice between closed and working is left
// to chance.
func TestDoAfterCloseIsAnError(t *testing.T) {
	e := openUnclosed(t, 2)
	e.Close()
	for range 100 {
		err := e.Do(context.Background(), func() error { return nil })
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Fatalf("got %v", err)
		}
	}
}

func TestOnlyOneEngine(t *testing.T) {
	open(t)
	if _, err := Open(Options{Threads: 1}); err == nil {
		t.Error("a second engine was opened")
	}
}

func TestNoLibrary(t *testing.T) {
	if _, err := Open(Options{Library: "/nonexistent.so"}); !errors.Is(err, ErrNoEngine) {
		t.Errorf("got %v", err)
	}
}

func TestDeviceNames(t *testing.T) {
	e := open(t)
	for _, name := range []string{"gpu", "cuda:x", "cuda:-1", "cuda:1x", "cuda:4096"} {
		if _, err := e.Device(name); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if d, err := e.Device("cpu"); err != nil || d != CPU {
		t.Errorf("cpu: %v %v", d, err)
	}
}

func TestImages(t *testing.T) {
	mean, std := []float32{.5, .25, 0}, []float32{.5, .25, 1}
	inScope(t, ScopeOptions{Device: CPU}, func(s *Scope) error {
		colour := s.Images([]byte{255, 0, 51, 0, 255, 102}, 1, 1, 2, 3, mean, std)
		got := make([]float32, 6)
		s.ReadFloats(colour, got)
		want := []float32{1, -1, -1, 3, .2, .4}
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 1e-6 {
				t.Errorf("colour value %d: %v, want %v", i, got[i], want[i])
			}
		}
		grey := s.Images([]byte{255}, 1, 1, 1, 1, mean, std)
		s.ReadFloats(grey, got[:3])
		for i, want := range []float32{1, 3, 1} {
			if got[i] != want {
				t.Errorf("grey channel %d: %v, want %v", i, got[i], want)
			}
		}
		return s.Err()
	})
}

func TestMaskBelowStopsGradient(t *testing.T) {
	inScope(t, ScopeOptions{Device: CPU, Grad: true}, func(s *Scope) error {
		x := s.Parameter([]float32{1, 2, 3}, true, 3)
		s.Backward(s.Mean(s.MaskBelow(x, x, 2.5)))
		got := make([]float32, 3)
		s.ReadFloats(s.Grad(x), got)
		if got[0] == 0 || got[1] == 0 || got[2] != 0 {
			t.Errorf("gradient %v", got)
		}
		return s.Err()
	})
}

func TestUnlikelihood(t *testing.T) {
	inScope(t, ScopeOptions{Device: CPU, Grad: true}, func(s *Scope) error {
		// p = .5; p = e²⁵/(e²⁵+1), where 1 − p would vanish in float32; p ≈ 0.
		logits := s.Parameter([]float32{0, 0, 25, 0, -30, 0}, true, 3, 2)
		loss := s.Unlikelihood(logits, s.Labels([]int64{0, 0, 0}))
		got := make([]float32, 3)
		s.ReadFloats(loss, got)
		for i, want := range []float64{math.Ln2, 25, 0} {
			if math.Abs(float64(got[i])-want) > 1e-5 {
				t.Errorf("sample %d: %v, want %v", i, got[i], want)
			}
		}
		s.Backward(s.Mean(loss))
		grad := make([]float32, 6)
		s.ReadFloats(s.Grad(logits), grad)
		// The gradient is p at the label, over three samples: it does not
		// vanish where the label is certain.
		for i, want := range []float64{.5, -.5, 1, -1, 0, 0} {
			if math.Abs(3*float64(grad[i])-want) > 1e-5 {
				t.Errorf("gradient %d: %v, want %v", i, 3*grad[i], want)
			}
		}
		return s.Err()
	})
}

func TestKeep(t *testing.T) {
	e := open(t)
	err := e.Do(context.Background(), func() error {
		long, short := e.NewScope(ScopeOptions{Device: CPU}), e.NewScope(ScopeOptions{Device: CPU})
		defer long.Close()
		kept := short.Keep(short.Floats([]float32{7}, 1), long)
		short.Close()
		got := make([]float32, 1)
		long.ReadFloats(kept, got)
		if got[0] != 7 {
			t.Errorf("got %v", got)
		}
		return long.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
