package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func cifar100Tree() map[string][]byte {
	var labels []byte
	var names strings.Builder
	for i := range 100 {
		labels = append(labels, byte(99-i))
		fmt.Fprintf(&names, "class%02d\n", i)
	}
	return map[string][]byte{
		"train.bin":            cifarRecords(2, labels...),
		"test.bin":             cifarRecords(2, 4, 99),
		"fine_label_names.txt": []byte(names.String()),
	}
}

func below(folder string, files map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for name, data := range files {
		out[folder+"/"+name] = data
	}
	return out
}

func TestReadCIFAR(t *testing.T) {
	for name, c := range map[string]struct {
		files      map[string][]byte
		format     string
		labels     []int32
		class3     string
		labelBytes int
	}{
		"10":           {cifarTree(), "cifar10", []int32{9, 8, 7, 6, 5, 0, 1, 2, 3, 4}, "cat", 1},
		"10 subfolder": {below("cifar-10-batches-bin", cifarTree()), "cifar10", []int32{9, 8, 7, 6, 5, 0, 1, 2, 3, 4}, "cat", 1},
		"10 no names":  {with(cifarTree(), map[string][]byte{"batches.meta.txt": nil}), "cifar10", []int32{9, 8, 7, 6, 5, 0, 1, 2, 3, 4}, "3", 1},
		"100":          {cifar100Tree(), "cifar100", nil, "class03", 2},
		"100 sub":      {below("cifar-100-binary", cifar100Tree()), "cifar100", nil, "class03", 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			train, test := open(t, dir, Train, 0), open(t, dir, Test, 0)
			if train.Format != c.format || train.Classes[3] != c.class3 || test.Len() != 2 {
				t.Errorf("format %s, class 3 %s, %d test images", train.Format, train.Classes[3], test.Len())
			}
			if c.labels != nil && !slices.Equal(train.Labels, c.labels) {
				t.Errorf("labels %v, want %v", train.Labels, c.labels)
			}
			record := cifarRecords(c.labelBytes, 0)[c.labelBytes:]
			for p := range cifarPlane {
				for channel := range 3 {
					if got, want := train.Image(0)[3*p+channel], record[channel*cifarPlane+p]; got != want {
						t.Fatalf("pixel %d channel %d is %d, want %d", p, channel, got, want)
					}
				}
			}
		})
	}
}

func TestBadCIFAR(t *testing.T) {
	good := cifarTree()
	change := func(name string, data []byte) map[string][]byte {
		return with(good, map[string][]byte{name: data})
	}
	hundred := cifar100Tree()
	coarse := slices.Clone(hundred["train.bin"])
	coarse[0] = 20
	testBad(t, 0, Limits{MaxSamples: 200}, []badCase{
		{"truncated", change("data_batch_2.bin", good["data_batch_2.bin"][:9000]), "", "data_batch_2.bin", "whole number of records"},
		{"trailing byte", change("data_batch_2.bin", append(slices.Clone(good["data_batch_2.bin"]), 0)), "", "data_batch_2.bin", "whole number of records"},
		{"empty file", change("data_batch_1.bin", []byte{}), "", "data_batch_1.bin", "whole number of records"},
		{"label", change("data_batch_1.bin", cifarRecords(1, 1, 10)), "", "data_batch_1.bin", "label 10 is out of range"},
		{"test label", change("test_batch.bin", cifarRecords(1, 255)), Test, "test_batch.bin", "label 255 is out of range"},
		{"missing file", with(good, map[string][]byte{"data_batch_2.bin": nil, "data_batch_3.bin": good["data_batch_2.bin"]}), "", "data_batch_2.bin", "missing"},
		{"empty class", change("data_batch_2.bin", cifarRecords(1, 0, 1, 2, 3)), "", ".", `class "deer" has no images`},
		{"too many", change("data_batch_2.bin", cifarRecords(1, make([]byte, 200)...)), "", "data_batch_2.bin", "over the limit"},
		{"names too few", change("batches.meta.txt", []byte("a\nb\n")), "", "batches.meta.txt", "2 class names, want 10"},
		{"name twice", change("batches.meta.txt", []byte("a\na\nb\nc\nd\ne\nf\ng\nh\ni\n")), "", "batches.meta.txt", "appears twice"},
		{"name not UTF-8", change("batches.meta.txt", []byte("\xff\na\nb\nc\nd\ne\nf\ng\nh\ni\n")), "", "batches.meta.txt", "not valid UTF-8"},
		{"name with escape", change("batches.meta.txt", []byte("\x1b[31m\na\nb\nc\nd\ne\nf\ng\nh\ni\n")), "", "batches.meta.txt", "control characters"},
		{"names too long", change("batches.meta.txt", make([]byte, maxMetaBytes+1)), "", "batches.meta.txt", "over"},
		{"coarse label", with(hundred, map[string][]byte{"train.bin": coarse}), "", "train.bin", "coarse label 20"},
		{"fine label", with(hundred, map[string][]byte{"train.bin": cifarRecords(2, 1, 99, 100)}), "", "train.bin", "out of range"},
	})
}

func FuzzCIFAR(f *testing.F) {
	f.Add(cifarRecords(1, 3, 200), int64(2*3073))
	f.Add(cifarRecords(2, 3), int64(3074))
	f.Add([]byte{}, int64(0))
	limits := DefaultLimits()
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		size = min(max(size, 0), 4*int64(len(data))+10) // what a file system could say
		for _, c := range cifarLayouts() {
			set := &Set{Height: cifarSide, Width: cifarSide, Channels: 3, superclass: make([]byte, c.classes)}
			err := c.parse(bytes.NewReader(data), size, set, limits)
			var bad *FormatError
			if err != nil && !errors.As(err, &bad) {
				t.Fatalf("%v is not a FormatError", err)
			}
			if err == nil && (int64(len(data)) != size || set.Len()*c.recordBytes() != len(data) || len(set.Pixels) != set.Len()*cifarPixels) {
				t.Fatalf("%d bytes gave %d images", len(data), set.Len())
			}
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add([]byte(cifarNames))
	f.Add([]byte("a\r\nb\r\n"))
	f.Add([]byte("\xff\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := parseNames(bytes.NewReader(data), 10)
		var bad *FormatError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("%v is not a FormatError", err)
			}
			return
		}
		again, err := parseNames(strings.NewReader(strings.Join(names, "\n")+"\n"), 10)
		if err != nil || !slices.Equal(names, again) {
			t.Fatalf("%q became %q, %v", names, again, err)
		}
	})
}

func TestCIFARCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, tree(t, cifarTree()), Train, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
