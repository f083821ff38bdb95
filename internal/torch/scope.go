package torch

import (
	"errors"
	"fmt"
	"unsafe"
)

// Device is where tensors live.
type Device int32

// CPU is the processor; 0, 1, … are CUDA devices.
const CPU Device = -1

// String gives the name a user would type: cpu, cuda or cuda:1.
func (d Device) String() string {
	switch {
	case d < 0:
		return "cpu"
	case d == 0:
		return "cuda"
	}
	return fmt.Sprintf("cuda:%d", int32(d))
}

// Device turns a name (cpu, cuda, cuda:N) into a device that this engine has.
func (e *Engine) Device(name string) (Device, error) {
	if name == "" || name == "cpu" {
		return CPU, nil
	}
	var n int
	if name != "cuda" {
		if _, err := fmt.Sscanf(name, "cuda:%d", &n); err != nil || n < 0 || fmt.Sprintf("cuda:%d", n) != name {
			return CPU, fmt.Errorf("unknown device %q: want cpu, cuda or cuda:N", name)
		}
	}
	if n >= e.info.CUDADevices {
		return CPU, fmt.Errorf("device %s: this engine (libtorch %s) sees %d CUDA devices", name, e.info.Torch, e.info.CUDADevices)
	}
	return Device(n), nil
}

// ScopeOptions sets what all operations of a scope share.
type ScopeOptions struct {
	Device Device
	Grad   bool // record operations for Backward
	// BF16 computes convolutions and linear layers in bfloat16.
	BF16 bool
}

// Scope owns tensors and the first error. It is used on the engine's thread, or on the one
// of EachThread's that made it.
type Scope struct {
	lib *library
	ptr uintptr
	opt ScopeOptions
}

// Tensor is a handle; the zero Tensor is "none". It is valid until its scope
// is closed, and after that an error, never a crash.
type Tensor struct{ id int64 }

// None reports whether t is no tensor.
func (t Tensor) None() bool { return t.id == 0 }

// NewScope makes a scope. Close it, usually with defer.
func (e *Engine) NewScope(opt ScopeOptions) *Scope {
	return &Scope{lib: e.lib, opt: opt, ptr: e.lib.ScopeNew(int32(opt.Device), flag(opt.Grad), flag(opt.BF16))}
}

// Close frees every tensor of the scope. Closing twice does nothing.
func (s *Scope) Close() {
	if s.ptr == 0 {
		return
	}
	s.lib.ScopeClose(s.ptr)
	s.ptr = 0
}

// Err returns the scope's first error: what failed and why.
func (s *Scope) Err() error {
	if msg := s.lib.ScopeError(s.ptr); msg != "" {
		return errors.New("engine: " + msg)
	}
	return nil
}

// Options returns what the scope was made with.
func (s *Scope) Options() ScopeOptions { return s.opt }

// Keep moves t to another scope and returns it. An error of s becomes the other's.
func (s *Scope) Keep(t Tensor, to *Scope) Tensor {
	return Tensor{s.lib.Keep(s.ptr, t.id, to.ptr)}
}

// Floats makes a float32 tensor of the given shape from row-major values.
func (s *Scope) Floats(values []float32, shape ...int) Tensor {
	return s.fromHost(unsafe.Pointer(unsafe.SliceData(values)), len(values), shape, 0)
}

// Labels makes an int64 vector.
func (s *Scope) Labels(values []int64) Tensor {
	return s.fromHost(unsafe.Pointer(unsafe.SliceData(values)), len(values), []int{len(values)}, 1)
}

func (s *Scope) fromHost(data unsafe.Pointer, count int, shape []int, dtype int32) Tensor {
	checkCount(count, shape)
	d := dims(shape)
	return Tensor{s.lib.FromHost(s.ptr, data, unsafe.SliceData(d), int32(len(d)), dtype)}
}

// Parameter makes a float32 tensor with the memory layout of weights, which
// collects gradients if asked to.
func (s *Scope) Parameter(values []float32, requiresGrad bool, shape ...int) Tensor {
	checkCount(len(values), shape)
	d := dims(shape)
	return Tensor{s.lib.Parameter(s.ptr, unsafe.SliceData(values), unsafe.SliceData(d), int32(len(d)), flag(requiresGrad))}
}

// Images makes a normalised float batch N × channels × H × W from 8-bit pixels
// in N × H × W × C order: (v/255 − mean) / std per channel. A single grey
// channel is repeated.
func (s *Scope) Images(pixels []byte, n, h, w, c int, mean, std []float32) Tensor {
	checkCount(len(pixels), []int{n, h, w, c})
	if len(mean) != len(std) {
		panic("torch: mean and std differ in length")
	}
	return Tensor{s.lib.Images(s.ptr, unsafe.SliceData(pixels), int64(n), int64(h), int64(w), int64(c),
		int64(len(mean)), unsafe.SliceData(mean), unsafe.SliceData(std))}
}

// SetFloats overwrites t's values, given in row-major order.
func (s *Scope) SetFloats(t Tensor, values []float32) {
	s.lib.Write(s.ptr, t.id, unsafe.Pointer(unsafe.SliceData(values)), int64(len(values))*4)
}

// ReadFloats copies t's float32 values to dst in row-major order; the sizes
// must agree.
func (s *Scope) ReadFloats(t Tensor, dst []float32) {
	s.lib.Read(s.ptr, t.id, unsafe.Pointer(unsafe.SliceData(dst)), int64(len(dst))*4)
}

// ReadInts copies t's int64 values to dst; the sizes must agree.
func (s *Scope) ReadInts(t Tensor, dst []int64) {
	s.lib.Read(s.ptr, t.id, unsafe.Pointer(unsafe.SliceData(dst)), int64(len(dst))*8)
}

// checkCount guards the memory behind a pointer handed to C: a mismatch is a
// programming error that must not become a wild read.
func checkCount(count int, shape []int) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	if n != count || count == 0 {
		panic(fmt.Sprintf("torch: %d values for shape %v", count, shape))
	}
}

func dims(shape []int) []int64 {
	d := make([]int64, len(shape))
	for i, v := range shape {
		d[i] = int64(v)
	}
	return d
}

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
