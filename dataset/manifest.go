package dataset

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cordon/internal/atomicfile"
)

// A manifest is a list of images: manifest.csv with a header, or
// manifest.jsonl with one object a line. Its columns or members are path,
// label, split ("train" where it is missing or empty, or "test") and the box
// x1, y1, x2, y2; others are ignored.
const (
	manifestCSV   = "manifest.csv"
	manifestJSONL = "manifest.jsonl"
	maxLineBytes  = 1 << 16
)

var boxColumns = []string{"x1", "y1", "x2", "y2"} // in pixels; both corners belong to the box

func hasManifest(entries []fs.DirEntry) bool {
	return has(entries, manifestCSV) || has(entries, manifestJSONL)
}

func listManifest(s *source, entries []fs.DirEntry, split Split, opt Options) (*listing, error) {
	name, format, parse := manifestCSV, formatCSV, parseCSV
	if has(entries, manifestJSONL) {
		if has(entries, manifestCSV) {
			return nil, s.locate(manifestJSONL, fault(-1, "%s is there too: which one counts?", manifestCSV))
		}
		name, format, parse = manifestJSONL, formatJSONL, parseJSONL
	}
	rows, err := s.readRows(name, parse)
	if err != nil {
		return nil, err
	}
	return listRows(s, format, rows, split, opt)
}

// readRows reads a list of images.
func (s *source) readRows(name string, parse func(io.Reader, Limits) ([]row, error)) ([]row, error) {
	f, _, err := s.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := parse(f, s.limits)
	if err == nil && len(rows) == 0 {
		err = fault(-1, "no images are listed")
	}
	for i := range rows {
		rows[i].list = name
	}
	return rows, s.locate(name, err)
}

// eachRow calls parse for the lines of a list that are not blank and collects
// the rows; ok is false for a line that holds none. Faults get the line's
// offset.
func eachRow(r io.Reader, limits Limits, parse func(line []byte) (row row, ok bool, err error)) ([]row, error) {
	in := bufio.NewReaderSize(r, maxLineBytes)
	var rows []row
	for at := int64(0); ; {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fault(at, "line is over %d bytes", maxLineBytes)
		case err != nil && !errors.Is(err, io.EOF):
			return nil, content(err)
		}
		if text := bytes.TrimRight(line, "\r\n"); len(text) > 0 {
			row, ok, fail := parse(text)
			if fail != nil {
				return nil, atLine(at, fail)
			}
			if row.at = at; ok {
				rows = append(rows, row)
			}
		}
		if len(rows) > limits.MaxSamples {
			return nil, fault(at, "over %d images", limits.MaxSamples)
		}
		if err != nil {
			return rows, nil
		}
		at += int64(len(line))
	}
}

// atLine makes a fault of the line at an offset of any error.
func atLine(at int64, err error) error {
	var bad *FormatError
	if errors.As(err, &bad) {
		bad.Offset = at
		return bad
	}
	return &FormatError{Offset: at, Reason: err.Error(), Err: err}
}

// makeRow checks the fields of a row; box holds four corners or none.
func makeRow(file, label, split string, box []int, limits Limits) (row, error) {
	r := row{file: path.Clean(file), label: label, split: Split(split)}
	switch {
	case nameFault(file) != "":
		return r, fault(-1, "path: %s", nameFault(file))
	case !filepath.IsLocal(file) || r.file == ".":
		return r, fault(-1, "path %q is not that of a file inside the folder", file)
	case split == "":
		r.split = Train
	case r.split != Train && r.split != Test:
		return r, fault(-1, "split %q: want %q or %q", split, Train, Test)
	}
	if err := checkName(label); err != nil {
		return r, err
	}
	var err error
	if len(box) > 0 {
		r.box, err = checkedBox(box[0], box[1], box[2], box[3], limits)
	}
	return r, err
}

// parseCSV reads manifest.csv: a header with the names of the columns in any
// order, then a line for each image.
func parseCSV(r io.Reader, limits Limits) ([]row, error) {
	var t *csvTable
	buffer := bufio.NewReaderSize(nil, maxLineBytes)
	return eachRow(r, limits, func(line []byte) (row, bool, error) {
		buffer.Reset(bytes.NewReader(line))
		fields, err := csv.NewReader(buffer).Read()
		var syntax *csv.ParseError
		if errors.As(err, &syntax) {
			err = syntax.Err
		}
		if err != nil {
			return row{}, false, err
		}
		if t == nil {
			t, err = newCSVTable(fields)
			return row{}, false, err
		}
		made, err := t.row(fields, limits)
		return made, true, err
	})
}

// csvTable knows where the columns of a manifest are; -1 for missing ones.
type csvTable struct {
	columns            int
	path, label, split int
	box                []int // nil without a box
}

func newCSVTable(header []string) (*csvTable, error) {
	const byteOrderMark = "\ufeff" // spreadsheets write it
	header[0] = strings.TrimPrefix(header[0], byteOrderMark)
	find := func(name string) int { return slices.Index(header, name) }
	t := &csvTable{columns: len(header), path: find("path"), label: find("label"), split: find("split")}
	if t.path < 0 || t.label < 0 {
		return nil, fault(-1, "the header needs the columns path and label")
	}
	found := 0
	for i, name := range header {
		if slices.Contains(header[:i], name) {
			return nil, fault(-1, "column %q appears twice", name)
		}
		if slices.Contains(boxColumns, name) {
			found++
		}
	}
	switch found {
	case 0:
		return t, nil
	case len(boxColumns):
		for _, name := range boxColumns {
			t.box = append(t.box, find(name))
		}
		return t, nil
	}
	return nil, fault(-1, "a box needs all of the columns x1, y1, x2, y2")
}

func (t *csvTable) row(fields []string, limits Limits) (row, error) {
	if len(fields) != t.columns {
		return row{}, fault(-1, "%d fields, but the header has %d", len(fields), t.columns)
	}
	split := ""
	if t.split >= 0 {
		split = fields[t.split]
	}
	var box []int
	for i, column := range t.box {
		if fields[column] == "" {
			continue
		}
		v, err := strconv.Atoi(fields[column])
		if err != nil {
			return row{}, fault(-1, "%s is %q, want a whole number", boxColumns[i], fields[column])
		}
		box = append(box, v)
	}
	if len(box) > 0 && len(box) < len(boxColumns) {
		return row{}, fault(-1, "the box is incomplete")
	}
	return makeRow(fields[t.path], fields[t.label], split, box, limits)
}

// jsonRow is a line of manifest.jsonl.
type jsonRow struct {
	Path  string    `json:"path"`
	Label jsonLabel `json:"label"`
	Split string    `json:"split"`
	X1    *int      `json:"x1,omitempty"`
	Y1    *int      `json:"y1,omitempty"`
	X2    *int      `json:"x2,omitempty"`
	Y2    *int      `json:"y2,omitempty"`
}

// jsonLabel is a class name, which may be given as a whole number.
type jsonLabel string

// UnmarshalJSON implements json.Unmarshaler.
func (l *jsonLabel) UnmarshalJSON(data []byte) error {
	var number int64
	if err := json.Unmarshal(data, &number); err == nil && string(data) != "null" {
		*l = jsonLabel(strconv.FormatInt(number, 10))
		return nil
	}
	return json.Unmarshal(data, (*string)(l))
}

// parseJSONRow reads one object. Its members are taken by their exact names, each
// at most once: package json would take "LABEL" for label and the last of two.
func parseJSONRow(line []byte) (jsonRow, error) {
	var j jsonRow
	given, err := jsonMembers(line)
	if err != nil {
		return j, err
	}
	for _, m := range []struct {
		name string
		into any
	}{{"path", &j.Path}, {"label", &j.Label}, {"split", &j.Split}, {"x1", &j.X1}, {"y1", &j.Y1}, {"x2", &j.X2}, {"y2", &j.Y2}} {
		value, ok := given[m.name]
		switch {
		case !ok && (m.name == "path" || m.name == "label"):
			return j, fault(-1, "member %q is missing (names are taken exactly)", m.name)
		case !ok:
			continue
		}
		if err := json.Unmarshal(value, m.into); err != nil {
			return j, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return j, nil
}

// jsonMembers splits an object into its members.
func jsonMembers(line []byte) (map[string]json.RawMessage, error) {
	if !json.Valid(line) { // what is read below is one whole value
		return nil, json.Unmarshal(line, new(any))
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, fault(-1, "not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		var value json.RawMessage
		key, err := d.Token()
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return nil, err
		}
		name := key.(string) // the others stand where values do
		if _, twice := members[name]; twice {
			return nil, fault(-1, "member %q appears twice", name)
		}
		members[name] = value
	}
	return members, nil
}

func parseJSONL(r io.Reader, limits Limits) ([]row, error) {
	return eachRow(r, limits, func(line []byte) (row, bool, error) {
		j, err := parseJSONRow(line)
		if err != nil {
			return row{}, false, err
		}
		var box []int
		for _, v := range []*int{j.X1, j.Y1, j.X2, j.Y2} {
			if v != nil {
				box = append(box, *v)
			}
		}
		if len(box) > 0 && len(box) < len(boxColumns) {
			return row{}, false, fault(-1, "the box is incomplete")
		}
		made, err := makeRow(j.Path, string(j.Label), j.Split, box, limits)
		return made, true, err
	})
}

// writeManifest writes the images as PNG files, in a folder for each split,
// and the manifest of them.
func writeManifest(ctx context.Context, dir string, train, test *Set, progress func(done, total int)) (*Written, error) {
	flat := func(split Split, _ string) string { return string(split) }
	names, err := writeImages(ctx, dir, train, test, flat, progress)
	if err != nil {
		return nil, err
	}
	name, write := manifestCSV, writeCSV
	if train.Format == formatJSONL {
		name, write = manifestJSONL, writeJSONL
	}
	err = atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error {
		return write(w, manifestRows(names, train, test))
	})
	if err != nil {
		return nil, err
	}
	written := inOrder(train)
	written.Keys = names[:train.Len()]
	return written, nil
}

func manifestRows(names []string, train, test *Set) []jsonRow {
	rows := make([]jsonRow, len(names))
	for i, name := range names {
		s, j, split := train, i, Train
		if i >= train.Len() {
			s, j, split = test, i-train.Len(), Test
		}
		rows[i] = jsonRow{Path: name, Label: jsonLabel(s.Classes[s.Labels[j]]), Split: string(split)}
	}
	return rows
}

func writeCSV(w io.Writer, rows []jsonRow) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"path", "label", "split"}); err != nil {
		return err
	}
	for _, r := range rows {
		if err := out.Write([]string{r.Path, string(r.Label), r.Split}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func writeJSONL(w io.Writer, rows []jsonRow) error {
	out := json.NewEncoder(w)
	for _, r := range rows {
		if err := out.Encode(r); err != nil {
			return fmt.Errorf("%s: %w", r.Path, err)
		}
	}
	return nil
}
