package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"cordon/internal/atomicfile"
)

// metadataKey is the header entry that holds strings instead of a tensor.
const metadataKey = "__metadata__"

// Write stores the tensors and the optional string metadata in a file, which
// appears complete or not at all. The header lists the tensors in the given
// order; the data is laid out by falling element size, so that every tensor
// is aligned. Equal arguments give equal bytes.
func Write(path string, tensors []Tensor, meta map[string]string) error {
	header, layout, err := encodeHeader(tensors, meta)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error {
		if err := binary.Write(w, binary.LittleEndian, uint64(len(header))); err != nil {
			return err
		}
		if _, err := w.Write(header); err != nil {
			return err
		}
		for _, i := range layout {
			if _, err := w.Write(tensors[i].Data); err != nil {
				return err
			}
		}
		return nil
	})
}

// encodeHeader returns the JSON header, padded to 8 bytes as the reference
// implementation does, and the order of the tensors' data.
func encodeHeader(tensors []Tensor, meta map[string]string) (header []byte, layout []int, err error) {
	if err := check(tensors, meta); err != nil {
		return nil, nil, err
	}
	layout = make([]int, len(tensors))
	for i := range layout {
		layout[i] = i
	}
	slices.SortStableFunc(layout, func(a, b int) int {
		return cmp.Compare(tensors[b].DType.Size(), tensors[a].DType.Size())
	})
	offsets := make([][2]int64, len(tensors))
	var end int64
	for _, i := range layout {
		begin := end
		end += int64(len(tensors[i].Data))
		offsets[i] = [2]int64{begin, end}
	}

	var b bytes.Buffer
	b.WriteByte('{')
	if len(meta) > 0 {
		if err := writeEntry(&b, metadataKey, meta); err != nil {
			return nil, nil, err
		}
	}
	for i, t := range tensors {
		entry := struct {
			DType   DType    `json:"dtype"`
			Shape   []int64  `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, append([]int64{}, t.Shape...), offsets[i]} // never null
		if err := writeEntry(&b, t.Name, entry); err != nil {
			return nil, nil, err
		}
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, nil, fmt.Errorf("header of %d bytes is over the limit of %d", b.Len(), maxHeader)
	}
	return b.Bytes(), layout, nil
}

func writeEntry(b *bytes.Buffer, name string, value any) error {
	if b.Len() > 1 {
		b.WriteByte(',')
	}
	key, err := json.Marshal(name)
	if err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	b.Write(key)
	b.WriteByte(':')
	b.Write(text)
	return nil
}

// check refuses what the reader would refuse.
func check(tensors []Tensor, meta map[string]string) error {
	seen := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		if t.Name == metadataKey || !utf8.ValidString(t.Name) {
			return fmt.Errorf("tensor name %q is not allowed", t.Name)
		}
		if seen[t.Name] {
			return fmt.Errorf("tensor %q is there twice", t.Name)
		}
		seen[t.Name] = true
		size, err := byteSize(t.DType, t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if size != int64(len(t.Data)) {
			return fmt.Errorf("tensor %q: shape %v of %s needs %d bytes, has %d", t.Name, t.Shape, t.DType, size, len(t.Data))
		}
	}
	for k, v := range meta {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("metadata %q is not UTF-8", k)
		}
	}
	return nil
}
