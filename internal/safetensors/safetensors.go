// Package safetensors reads and writes named tensors in the safetensors
// format: an 8-byte little-endian header length, a JSON header, the data.
//
// Files are hostile: the reader checks the whole header before it returns,
// and accepts only files whose tensors cover the data exactly, as the
// reference implementation does.
package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DType is the element type of a tensor, spelled as in the file.
type DType string

// The element types this package knows.
const (
	F32  DType = "F32"  // IEEE single precision
	BF16 DType = "BF16" // the upper half of an F32
	I64  DType = "I64"  // signed 64-bit integer
	U8   DType = "U8"   // byte
)

// Size returns the bytes of one element, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case I64:
		return 8
	case F32:
		return 4
	case BF16:
		return 2
	case U8:
		return 1
	}
	return 0
}

// Tensor is one named array in row-major order.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64 // empty for a scalar
	Data  []byte  // little-endian elements
}

// FromFloat32 returns an F32 tensor with a copy of the values.
func FromFloat32(name string, shape []int64, values []float32) Tensor {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return Tensor{Name: name, DType: F32, Shape: shape, Data: data}
}

// FromInt64 returns an I64 tensor with a copy of the values.
func FromInt64(name string, shape []int64, values []int64) Tensor {
	data := make([]byte, 8*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint64(data[8*i:], uint64(v))
	}
	return Tensor{Name: name, DType: I64, Shape: shape, Data: data}
}

// Float32s returns the elements of an F32 or BF16 tensor; both are exact.
func (t Tensor) Float32s() ([]float32, error) {
	var values []float32
	switch t.DType {
	case F32:
		values = make([]float32, 0, len(t.Data)/4)
		for i := 0; i+4 <= len(t.Data); i += 4 {
			values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(t.Data[i:])))
		}
	case BF16:
		values = make([]float32, 0, len(t.Data)/2)
		for i := 0; i+2 <= len(t.Data); i += 2 {
			high := uint32(binary.LittleEndian.Uint16(t.Data[i:]))
			values = append(values, math.Float32frombits(high<<16))
		}
	default:
		return nil, fmt.Errorf("tensor %q: is %s, want F32 or BF16", t.Name, t.DType)
	}
	return values, nil
}

// byteSize returns the size of a tensor of this type and shape.
func byteSize(dtype DType, shape []int64) (int64, error) {
	if dtype.Size() == 0 {
		return 0, fmt.Errorf("unknown element type %q", dtype)
	}
	size, zero := int64(dtype.Size()), false
	for _, n := range shape {
		switch {
		case n < 0:
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		case n == 0:
			zero = true
		case size > math.MaxInt64/n:
			return 0, fmt.Errorf("shape %v overflows", shape)
		default:
			size *= n
		}
	}
	if zero {
		return 0, nil
	}
	return size, nil
}
