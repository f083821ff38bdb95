package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// manifestTree has images of 8 × 8 pixels, and a manifest of the given text.
func manifestTree(t testing.TB, name, text string) map[string][]byte {
	return map[string][]byte{
		name:      []byte(text),
		"a/1.png": pngOf(t, textured(8, 1)),
		"a/2.png": pngOf(t, textured(8, 2)),
		"3.png":   pngOf(t, textured(8, 3)),
		"4.png":   pngOf(t, textured(8, 4)),
	}
}

const goodCSV = "\ufeffnote,label,path,split\r\n" +
	"x,dog,a/2.png,train\r\n" +
	"\"y, z\",cat,./a/1.png,\n" +
	"\n" +
	",dog,\"3.png\",test"

const goodJSONL = `{"path": "a/2.png", "label": "dog", "split": "train", "note": [1, {"x": null}]}
{"label": "cat", "path": "a/../a/1.png"}

{"path": "3.png", "label": "dog", "split": "test"}
`

func TestReadManifest(t *testing.T) {
	for name, text := range map[string]string{"manifest.csv": goodCSV, "manifest.jsonl": goodJSONL} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, manifestTree(t, name, text))
			train, test := open(t, dir, Train, 8), open(t, dir, Test, 8)
			if want := []string{"a/2.png", "a/1.png"}; !slices.Equal(train.Files, want) || !slices.Equal(train.Labels, []int32{1, 0}) {
				t.Errorf("files %v, labels %v", train.Files, train.Labels)
			}
			if want := []string{"cat", "dog"}; !slices.Equal(train.Classes, want) || !slices.Equal(test.Classes, want) {
				t.Errorf("classes %v and %v", train.Classes, test.Classes)
			}
			if test.Len() != 1 || test.Key(0) != "3.png" || test.Labels[0] != 1 {
				t.Errorf("test split: %v %v", test.Files, test.Labels)
			}
			want := make([]byte, 8*8*3)
			pack(want, 3, scaled(textured(8, 2), image.Rect(0, 0, 8, 8), 8, 8))
			if !bytes.Equal(train.Image(0), want) {
				t.Error("pixels of a/2.png differ")
			}
		})
	}
}

// Whole numbers are ordered as numbers, whether JSON quotes them or not.
func TestManifestNumberedClasses(t *testing.T) {
	for name, text := range map[string]string{
		"manifest.csv":   "path,label\na/1.png,10\na/2.png,9\n",
		"manifest.jsonl": `{"path":"a/1.png","label":10}` + "\n" + `{"path":"a/2.png","label":"9"}`,
	} {
		set := open(t, tree(t, manifestTree(t, name, text)), Train, 8)
		if !slices.Equal(set.Classes, []string{"9", "10"}) || !slices.Equal(set.Labels, []int32{1, 0}) {
			t.Errorf("%s: classes %v, labels %v", name, set.Classes, set.Labels)
		}
	}
	names := []string{"10", "9", "x", "1"}
	if sortClasses(names); !slices.Equal(names, []string{"1", "10", "9", "x"}) {
		t.Errorf("mixed names in the order %v", names)
	}
	names = []string{"1", "01", "0"}
	if sortClasses(names); !slices.Equal(names, []string{"0", "01", "1"}) {
		t.Errorf("equal numbers in the order %v", names)
	}
}

// Both corner pixels belong to a box; an image without one stays whole.
func TestManifestBoxes(t *testing.T) {
	for name, text := range map[string]string{
		"manifest.csv": "x1,y1,x2,y2,path,label\n2,1,5,4,a/1.png,cat\n,,,,a/2.png,dog\n",
		"manifest.jsonl": `{"path":"a/1.png","label":"cat","x1":2,"y1":1,"x2":5,"y2":4}` + "\n" +
			`{"path":"a/2.png","label":"dog"}`,
	} {
		dir := tree(t, manifestTree(t, name, text))
		set, err := Open(context.Background(), dir, Train, Options{Size: 4, Crop: true})
		if err != nil {
			t.Fatal(err)
		}
		whole := open(t, dir, Train, 4)
		if bytes.Equal(set.Image(0), whole.Image(0)) || !bytes.Equal(set.Image(1), whole.Image(1)) {
			t.Errorf("%s: the wrong image was cut", name)
		}
		for y := range 4 {
			for x := range 4 {
				r, g, b, _ := textured(8, 1).At(x+2, y+1).RGBA()
				if got, want := set.Image(0)[3*(4*y+x):][:3], []byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}; !bytes.Equal(got, want) {
					t.Fatalf("%s: pixel (%d, %d) is %v, want %v", name, x, y, got, want)
				}
			}
		}
	}
}

func TestCropNeedsBoxes(t *testing.T) {
	for name, files := range map[string]map[string][]byte{
		"idx": idxTree(), "cifar10": cifarTree(), "folder": folderTree(t),
		"csv": manifestTree(t, "manifest.csv", goodCSV),
	} {
		dir := tree(t, files)
		if _, err := Open(context.Background(), dir, Train, Options{Size: 8, Crop: true}); !errors.Is(err, ErrNoBoxes) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want ErrNoBoxes and the folder", name, err)
		}
	}
}

func TestManifestWithoutTraining(t *testing.T) {
	dir := tree(t, manifestTree(t, "manifest.csv", "path,label,split\na/1.png,cat,test\na/2.png,dog,test\n"))
	if test := open(t, dir, Test, 8); len(test.Classes) != 2 {
		t.Errorf("classes %v", test.Classes)
	}
	if _, err := Open(context.Background(), dir, Train, Options{Size: 8}); !errors.Is(err, ErrNoSplit) {
		t.Errorf("got %v, want ErrNoSplit", err)
	}
	if _, err := Open(context.Background(), dir, Train, Options{}); !errors.Is(err, ErrNeedsSize) {
		t.Errorf("got %v, want ErrNeedsSize", err)
	}
}

func TestBadManifest(t *testing.T) {
	ok := "a/1.png,cat\na/2.png,dog\n"
	csv := func(text string) map[string][]byte { return manifestTree(t, "manifest.csv", text) }
	jsonl := func(text string) map[string][]byte { return manifestTree(t, "manifest.jsonl", text) }
	long := strings.Repeat("x", maxLineBytes)
	testBad(t, 8, Limits{MaxClasses: 3, MaxSamples: 20, MaxSide: 100}, []badCase{
		{"empty", csv(""), "", "manifest.csv", "no images are listed"},
		{"header only", csv("path,label\n"), "", "manifest.csv", "no images are listed"},
		{"no header", csv(ok), "", "manifest.csv", "needs the columns path and label"},
		{"column twice", csv("path,label,label\n"), "", "manifest.csv", `column "label" appears twice`},
		{"three corners", csv("path,label,x1,y1,x2\n"), "", "manifest.csv", "all of the columns"},
		{"few fields", csv("path,label\na/1.png\n"), "", "manifest.csv", "1 fields, but the header has 2"},
		{"quote", csv("path,label\na/1.png,\"cat\n"), "", "manifest.csv", "quote"},
		{"absolute", csv("path,label\n/etc/passwd,cat\n"), "", "manifest.csv", "not that of a file inside the folder"},
		{"leads out", csv("path,label\na/../../x.png,cat\n"), "", "manifest.csv", "not that of a file inside the folder"},
		{"folder itself", csv("path,label\n.,cat\n"), "", "manifest.csv", "not that of a file inside the folder"},
		{"no path", csv("path,label\n,cat\n"), "", "manifest.csv", "path: name is empty"},
		{"path with control", csv("path,label\na\x1b.png,cat\n"), "", "manifest.csv", "control characters"},
		{"no label", csv("path,label\na/1.png,\n"), "", "manifest.csv", "name is empty"},
		{"split", csv("path,label,split\na/1.png,cat,val\n"), "", "manifest.csv", `split "val": want "train" or "test"`},
		{"listed twice", csv("path,label\n" + ok + "a/1.png,dog\n"), "", "manifest.csv", `"a/1.png" is listed twice`},
		{"test class", csv("path,label,split\na/1.png,cat,\na/2.png,dog,\n3.png,eel,test\n"), Test, "manifest.csv", `class "eel" is not in the training split`},
		{"one class", csv("path,label\na/1.png,cat\n"), "", ".", "1 class"},
		{"many classes", csv("path,label\n1,1\n2,2\n3,3\n4,4\n"), "", "manifest.csv", "over 3 classes"},
		{"many images", csv("path,label\n" + strings.Repeat("1,1\n", 21)), "", "manifest.csv", "over 20 images"},
		{"long line", csv("path,label\n" + long + ",cat\n"), "", "manifest.csv", "line is over"},
		{"no file", csv("path,label\na/9.png,cat\na/2.png,dog\n"), "", "a/9.png", "cannot be read"},
		{"folder as file", csv("path,label\na,cat\na/2.png,dog\n"), "", "a", "not a regular file"},
		{"box not a number", csv("path,label,x1,y1,x2,y2\na/1.png,cat,1,1,2.5,2\n"), "", "manifest.csv", `x2 is "2.5"`},
		{"box incomplete", csv("path,label,x1,y1,x2,y2\na/1.png,cat,1,1,,2\n"), "", "manifest.csv", "the box is incomplete"},
		{"box turned", csv("path,label,x1,y1,x2,y2\na/1.png,cat,3,1,2,2\n"), "", "manifest.csv", "holds no pixels"},
		{"box negative", csv("path,label,x1,y1,x2,y2\na/1.png,cat,-1,1,2,2\n"), "", "manifest.csv", "out of range 0 … 99"},
		{"both", with(csv(goodCSV), map[string][]byte{"manifest.jsonl": []byte(goodJSONL)}), "", "manifest.jsonl", "manifest.csv is there too"},
		{"json", jsonl("{]\n"), "", "manifest.jsonl", "invalid character"},
		{"json list", jsonl(`["a/1.png"]`), "", "manifest.jsonl", "not a JSON object"},
		{"json twice", jsonl(`{"path":"a/1.png","label":"x","label":"y"}`), "", "manifest.jsonl", `member "label" appears twice`},
		{"json other case", jsonl(`{"path":"a/1.png","LABEL":"x"}`), "", "manifest.jsonl", `member "label" is missing`},
		{"json label", jsonl(`{"path":"a/1.png","label":1.5}`), "", "manifest.jsonl", "cannot unmarshal"},
		{"json without label", jsonl(`{"path":"a/1.png"}`), "", "manifest.jsonl", `member "label" is missing`},
		{"json without path", jsonl(`{"label":"x"}`), "", "manifest.jsonl", `member "path" is missing`},
		{"json box", jsonl(`{"path":"a/1.png","label":"x","x1":1}`), "", "manifest.jsonl", "the box is incomplete"},
		{"json huge box", jsonl(`{"path":"a/1.png","label":"x","x1":1e99}`), "", "manifest.jsonl", "cannot unmarshal"},
	})
}

func TestManifestFaultNamesLine(t *testing.T) {
	text := "path,label\na/1.png,cat\na/2.png\n"
	_, err := Open(context.Background(), tree(t, manifestTree(t, "manifest.csv", text)), Train, Options{Size: 8})
	var bad *FormatError
	if !errors.As(err, &bad) || bad.Offset != int64(strings.Index(text, "a/2.png")) {
		t.Errorf("%v does not name the line", err)
	}
}

func TestManifestBoxLeavesImage(t *testing.T) {
	dir := tree(t, manifestTree(t, "manifest.csv", "path,label,x1,y1,x2,y2\na/1.png,cat,0,0,8,7\na/2.png,dog,0,0,7,7\n3.png,cat,,,,\n"))
	_, err := Open(context.Background(), dir, Train, Options{Size: 8, Crop: true})
	wantFault(t, err, dir, "a/1.png", "box from (0, 0) to (8, 7) leaves the image of 8 × 8 pixels")
	set, err := Open(context.Background(), dir, Train, Options{Size: 8, Crop: true, SkipBad: true})
	if err != nil || set.Len() != 2 || len(set.Skipped) != 1 {
		t.Errorf("with SkipBad: %v, %v", set, err)
	}
}

// A link in the folder must not lead a manifest out of it.
func TestManifestLinkOut(t *testing.T) {
	outside := tree(t, map[string][]byte{"secret.png": pngOf(t, textured(8, 9))})
	dir := tree(t, manifestTree(t, "manifest.csv", "path,label\na/1.png,cat\nout/secret.png,dog\n"))
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir, Train, Options{Size: 8})
	wantFault(t, err, dir, "out/secret.png", "cannot be read")
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(goodCSV))
	f.Add([]byte(goodJSONL))
	f.Add([]byte("path,label,x1,y1,x2,y2\na,b,1,2,3,4\nc,d,,,,\n"))
	f.Add([]byte(`{"path":"a","label":1,"x1":0,"y1":0,"x2":5,"y2":5}`))
	f.Add([]byte(`{"path":"a","label":"x","LABEL":"y","label":"z"}`))
	f.Add([]byte("000_0001.png;134;128;19;7;120;117;0;\n"))
	limits := Limits{MaxSamples: 100, MaxClasses: 10, MaxSide: 1000}.orDefault()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func() ([]row, error){
			func() ([]row, error) { return parseCSV(bytes.NewReader(data), limits) },
			func() ([]row, error) { return parseJSONL(bytes.NewReader(data), limits) },
			func() ([]row, error) { return tsrdParts()[0].parse(bytes.NewReader(data), limits) },
		} {
			rows, err := parse()
			var bad *FormatError
			if err != nil && !errors.As(err, &bad) {
				t.Fatalf("%v is not a FormatError", err)
			}
			if len(rows) > limits.MaxSamples {
				t.Fatalf("%d rows passed the limit", len(rows))
			}
			for _, r := range rows {
				if !filepath.IsLocal(r.file) || r.label == "" || r.split != Train && r.split != Test || r.box.Min.X < 0 || r.box.Max.X > limits.MaxSide {
					t.Fatalf("row %+v passed", r)
				}
			}
		}
	})
}

// tsrdTree has annotations of 8 × 8 images of the given categories.
func tsrdTree(t testing.TB, train, test []int) map[string][]byte {
	files := map[string][]byte{}
	for i, part := range tsrdParts() {
		var text strings.Builder
		for k, category := range [][]int{train, test}[i] {
			name := fmt.Sprintf("%03d_%04d.png", category, k)
			fmt.Fprintf(&text, "%s;8;8;2;1;5;4;%d;\n", name, category)
			files[part.folder+"/"+name] = pngOf(t, textured(8, 10*k+i))
		}
		files[part.annotations] = []byte(text.String())
	}
	return files
}

func TestReadTSRD(t *testing.T) {
	dir := tree(t, tsrdTree(t, []int{11, 9, 100, 9}, []int{100, 9}))
	train, test := open(t, dir, Train, 8), open(t, dir, Test, 8)
	if want := []string{"009", "011", "100"}; !slices.Equal(train.Classes, want) || !slices.Equal(test.Classes, want) {
		t.Errorf("classes %v and %v", train.Classes, test.Classes)
	}
	if !slices.Equal(train.Labels, []int32{1, 0, 2, 0}) || !slices.Equal(test.Labels, []int32{2, 0}) {
		t.Errorf("labels %v and %v", train.Labels, test.Labels)
	}
	if train.Format != "tsrd" || train.Key(0) != "tsrd-train/011_0000.png" || test.Key(1) != "TSRD-Test/009_0001.png" {
		t.Errorf("format %s, keys %s %s", train.Format, train.Key(0), test.Key(1))
	}
	cut, err := Open(context.Background(), dir, Train, Options{Size: 4, Crop: true})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4*4*3)
	pack(want, 3, scaled(textured(8, 0), image.Rect(2, 1, 6, 5), 4, 4))
	if !bytes.Equal(cut.Image(0), want) {
		t.Error("the box is not both corners and what is between them")
	}
}

func TestBadTSRD(t *testing.T) {
	good := tsrdTree(t, []int{0, 1}, []int{0})
	const name = "TsignRecgTrain4170Annotation.txt"
	line := func(text string) map[string][]byte {
		return with(good, map[string][]byte{name: append(slices.Clone(good[name]), text...)})
	}
	testBad(t, 8, Limits{}, []badCase{
		{"few fields", line("x.png;8;8;1;1;2;2;\n"), "", name, "7 fields, want 8"},
		{"many fields", line("x.png;8;8;1;1;2;2;3;4;\n"), "", name, "9 fields, want 8"},
		{"not a number", line("x.png;8;8;1;1;2;2;a;\n"), "", name, `"a" is not a whole number`},
		{"no name", line(";8;8;1;1;2;2;1;\n"), "", name, "name is empty"},
		{"folder in name", line("../x.png;8;8;1;1;2;2;1;\n"), "", name, "not a file name"},
		{"parent", line("..;8;8;1;1;2;2;1;\n"), "", name, "not a file name"},
		{"box too large", line("x.png;8;8;1;1;8;2;1;\n"), "", name, "box to (8, 2) leaves the image of 8 × 8"},
		{"box empty", line("x.png;8;8;3;1;2;2;1;\n"), "", name, "holds no pixels"},
		{"category", line("x.png;8;8;1;1;2;2;1000;\n"), "", name, "category 1000 is out of range"},
		{"negative category", line("x.png;8;8;1;1;2;2;-1;\n"), "", name, "category -1 is out of range"},
		{"file is missing", line("x.png;8;8;1;1;2;2;1;\n"), "", "tsrd-train/x.png", "cannot be read"},
		{"training class", with(tsrdTree(t, []int{0, 1}, []int{2}), nil), Test, "TsignRecgTest1994Annotation.txt", `class "002" is not in the training split`},
	})
	if _, err := Open(context.Background(), tree(t, with(good, map[string][]byte{name: nil})), Train, Options{Size: 8}); !errors.Is(err, ErrNoSplit) {
		t.Errorf("without training annotations: %v", err)
	}
}
