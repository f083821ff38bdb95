package torch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ABI is the version of engine/cordon_engine.h that this package speaks.
const ABI = 10

// LibraryName is the file that holds the engine.
const LibraryName = "libcordon_engine.so"

// ErrNoEngine says that the engine library was not found or does not fit.
var ErrNoEngine = errors.New("engine library not available")

// library is the engine's C interface. Field names are the C names without
// their prefix, in Go's spelling; bind fills them in.
type library struct {
	path string

	Abi          func() int32
	TorchVersion func() string
	BuildInfo    func() string
	Vectors      func() string
	Init         func(threads int32) string
	Shutdown     func()
	Threads      func(threads int32)
	CudaDevices  func() int32
	Live         func() int64

	ScopeNew   func(device, grad, bf16 int32) uintptr
	ScopeClose func(s uintptr)
	ScopeError func(s uintptr) string
	Keep       func(from uintptr, t int64, to uintptr) int64

	FromHost  func(s uintptr, data unsafe.Pointer, dims *int64, ndim, dtype int32) int64
	Parameter func(s uintptr, data *float32, dims *int64, ndim, requiresGrad int32) int64
	Write     func(s uintptr, t int64, data unsafe.Pointer, bytes int64)
	Read      func(s uintptr, t int64, data unsafe.Pointer, bytes int64)
	Images    func(s uintptr, pixels *byte, n, h, w, c, channels int64, mean, std *float32) int64

	Conv2d        func(s uintptr, x, weight, stride, padding int64) int64
	BatchNorm     func(s uintptr, x, weight, bias, mean, variance int64, mode int32, momentum, eps float64, residual int64, relu int32) int64
	ConvNorm      func(s uintptr, x, kernel, stride, padding, weight, bias, mean, variance int64, mode int32, momentum, eps float64, residual int64, relu int32, around *int64) int64
	ConvNormPool  func(s uintptr, x, kernel, stride, padding, weight, bias, mean, variance int64, mode int32, momentum, eps float64) int64
	Add           func(s uintptr, a, b int64) int64
	MaxPool2d     func(s uintptr, x, kernel, stride, padding int64) int64
	GlobalAvgPool func(s uintptr, x int64) int64
	Linear        func(s uintptr, x, weight, bias int64) int64
	Matmul        func(s uintptr, a, b int64) int64

	CrossEntropy func(s uintptr, logits, labels int64) int64
	Unlikelihood func(s uintptr, logits, labels int64) int64
	MaskBelow    func(s uintptr, x, reference int64, bound float64) int64
	Rows         func(s uintptr, x, begin, count int64) int64
	Mean         func(s uintptr, x int64) int64
	Scale        func(s uintptr, x int64, factor float64) int64
	Argmax       func(s uintptr, x int64) int64

	Backward func(s uintptr, loss int64)
	Grad     func(s uintptr, t int64) int64
	Descend  func(s uintptr, loss int64, params, velocity *int64, count int32, rate, momentum, weightDecay float64, nesterov int32)
}

// cName turns a field name into the name of the C function: BatchNorm into
// cordon_batch_norm.
func cName(field string) string {
	var b strings.Builder
	b.WriteString("cordon")
	for _, r := range field {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// candidates lists where the library is looked for: only the named file if one
// is named, by the caller or by CORDON_ENGINE; else beside the program and in
// the usual library folders.
func candidates(named string) []string {
	if named == "" {
		named = os.Getenv("CORDON_ENGINE")
	}
	if named != "" {
		return []string{named}
	}
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dirs = append(dirs, filepath.Dir(exe), filepath.Join(filepath.Dir(exe), "..", "lib"))
	}
	dirs = append(dirs, "/usr/local/lib", "/usr/lib")
	var files []string
	for _, d := range dirs {
		files = append(files, filepath.Join(d, LibraryName))
	}
	return files
}

// load opens the first library found and binds its functions.
func load(named string) (*library, error) {
	files := candidates(named)
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			continue
		}
		return bind(f)
	}
	return nil, fmt.Errorf("%w: looked for %s", ErrNoEngine, strings.Join(files, ", "))
}

func bind(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNoEngine, err)
	}
	lib := &library{path: path}
	symbol, err := purego.Dlsym(handle, "cordon_abi")
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not an engine library", ErrNoEngine, path)
	}
	purego.RegisterFunc(&lib.Abi, symbol)
	if got := lib.Abi(); got != ABI {
		return nil, fmt.Errorf("%w: %s has interface version %d, this program needs %d: build it again", ErrNoEngine, path, got, ABI)
	}
	v := reflect.ValueOf(lib).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.Func {
			continue
		}
		name := cName(v.Type().Field(i).Name)
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("%w: %s lacks %s", ErrNoEngine, path, name)
		}
		purego.RegisterFunc(v.Field(i).Addr().Interface(), symbol)
	}
	return lib, nil
}
