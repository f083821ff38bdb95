// Package torch is the only binding to the engine: tensors, automatic
// differentiation and the operations of residual networks on libtorch, behind
// the C interface of engine/cordon_engine.h.
//
// The library is loaded at run time, without cgo. All of it runs on locked
// operating-system threads, because libtorch keeps its modes and its thread
// pool per thread: work is handed over to the engine's thread with Engine.Do, and
// scopes and tensors are used only inside it. Inside it Engine.EachThread divides work
// that has independent parts, such as scoring, better than the operations do.
//
// A Scope owns the tensors made in it and frees them when it is closed. Errors
// stick to the scope: operations after the first error do nothing, so a
// forward pass is written without checks and Err is asked once per step.
package torch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Options says how the engine is opened.
type Options struct {
	// Library is the file to load. Empty: CORDON_ENGINE, then beside the
	// program, then the usual library folders.
	Library string
	// Threads is the number of threads an operation may use; results are
	// bit-identical only for equal thread counts. 0 takes one per processor.
	Threads int
}

// Info describes an open engine.
type Info struct {
	Library     string // the file
	Torch       string // libtorch's version
	Build       string // compiler, libtorch, oneDNN, vectors
	Vectors     string // basic, avx2, avx512, avx512_bf16 or amx: what the processor has, Linux lends and CORDON_FORCE_ISA allows; without oneDNN at most avx512
	Threads     int
	CUDADevices int
}

// Engine is the loaded library and its thread. Only one can be open.
type Engine struct {
	lib     *library
	info    Info
	work    chan func()
	helpers chan func()   // of EachThread's other threads, nil before its first call
	quit    chan struct{} // closed by Close
	done    chan struct{} // closed when the thread has ended
}

// Open loads the engine and starts its thread. The error is ErrNoEngine
// (wrapped) if there is no fitting library.
func Open(opt Options) (*Engine, error) {
	if opt.Threads < 0 {
		return nil, fmt.Errorf("engine: thread count must not be negative: %d", opt.Threads)
	}
	if opt.Threads == 0 {
		opt.Threads = runtime.NumCPU()
	}
	lib, err := load(opt.Library)
	if err != nil {
		return nil, err
	}
	e := &Engine{lib: lib, work: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	started := make(chan error)
	go e.serve(opt.Threads, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Engine) serve(threads int, started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	defer close(e.done)
	if msg := e.lib.Init(int32(threads)); msg != "" {
		started <- fmt.Errorf("engine: %s", msg)
		return
	}
	defer e.lib.Shutdown()
	e.info = Info{
		Library:     e.lib.path,
		Torch:       e.lib.TorchVersion(),
		Build:       e.lib.BuildInfo() + ", " + e.lib.Vectors(),
		Vectors:     e.lib.Vectors(),
		Threads:     threads,
		CUDADevices: int(e.lib.CudaDevices()),
	}
	started <- nil
	e.do(e.work)
}

// do does work until the engine is closed.
func (e *Engine) do(work <-chan func()) {
	for {
		select {
		case f := <-work:
			f()
		case <-e.quit:
			return
		}
	}
}

// Info describes the engine.
func (e *Engine) Info() Info { return e.info }

// Do runs f on the engine's thread and returns its error. Cancelling ctx gives
// up waiting for the thread; once f runs, f itself must watch ctx. A panic in f
// comes back as an error with its stack.
func (e *Engine) Do(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case e.work <- func() { report(f, result) }:
		return <-result
	case <-ctx.Done():
		return ctx.Err()
	case <-e.quit:
		return errors.New("engine: closed")
	}
}

// report sends what f returns, whatever becomes of f.
func report(f func() error, result chan<- error) {
	err := errors.New("engine: the work ended its goroutine") // runtime.Goexit, as t.Fatal does
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("engine: panic: %v\n%s", p, debug.Stack())
		}
		result <- err
	}()
	err = f()
}

// EachThread runs f at once on as many threads as an operation may use, this one among
// them, and returns their errors. Each has its operations to itself meanwhile: no operation
// waits for another thread. f makes scopes of its own, and may read tensors of others
// that nobody changes. Call it inside Do.
func (e *Engine) EachThread(f func() error) error {
	n := e.info.Threads
	if e.helpers == nil {
		e.helpers = make(chan func())
		for range n - 1 {
			go e.help()
		}
	}
	results := make(chan error, n)
	for range n - 1 {
		e.helpers <- func() { report(f, results) }
	}
	e.lib.Threads(1)
	report(f, results)
	var errs []error
	for range n {
		errs = append(errs, <-results)
	}
	e.lib.Threads(int32(n))
	return errors.Join(errs...)
}

func (e *Engine) help() {
	runtime.LockOSThread() // as in serve
	e.lib.Threads(1)
	e.do(e.helpers)
}

// Close ends the engine's threads. The library stays loaded.
func (e *Engine) Close() {
	close(e.quit)
	<-e.done
}

// Live returns the number of tensors alive. Call it inside Do.
func (e *Engine) Live() int { return int(e.lib.Live()) }
