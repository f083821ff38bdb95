package dataset

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// TSRD, the Chinese traffic sign set of the Institute of Automation, CAS: two
// folders of PNG files, each with a file of annotations, one line an image:
// name;width;height;x1;y1;x2;y2;category; where (x1, y1) and (x2, y2) are the
// corner pixels of the sign.
type tsrdPart struct {
	split       Split
	annotations string
	folder      string
}

func tsrdParts() []tsrdPart {
	return []tsrdPart{
		{Train, "TsignRecgTrain4170Annotation.txt", "tsrd-train"},
		{Test, "TsignRecgTest1994Annotation.txt", "TSRD-Test"},
	}
}

// tsrdFields is the number of fields of a line; a semicolon ends the last.
const tsrdFields = 8

// tsrdMaxCategory keeps class names at three digits.
const tsrdMaxCategory = 999

func hasTSRD(entries []fs.DirEntry) bool {
	for _, part := range tsrdParts() {
		if has(entries, part.annotations) {
			return true
		}
	}
	return false
}

// listTSRD lists a split of TSRD. A class is named by its category in three
// digits, as in the names of the files, so that names and numbers sort alike.
func listTSRD(s *source, entries []fs.DirEntry, split Split, opt Options) (*listing, error) {
	var rows []row
	for _, part := range tsrdParts() {
		if !has(entries, part.annotations) {
			continue
		}
		more, err := s.readRows(part.annotations, part.parse)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return listRows(s, formatTSRD, rows, split, opt)
}

func (p tsrdPart) parse(r io.Reader, limits Limits) ([]row, error) {
	return eachRow(r, limits, func(line []byte) (row, bool, error) {
		made, err := p.row(string(line), limits)
		return made, true, err
	})
}

func (p tsrdPart) row(line string, limits Limits) (row, error) {
	fields := strings.Split(strings.TrimSuffix(line, ";"), ";")
	if len(fields) != tsrdFields {
		return row{}, fault(-1, "%d fields, want %d: name;width;height;x1;y1;x2;y2;category;", len(fields), tsrdFields)
	}
	name := fields[0]
	if strings.ContainsAny(name, `/\`) || name == "." || name == ".." {
		return row{}, fault(-1, "%q is not a file name", name)
	}
	var numbers [tsrdFields - 1]int
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.Atoi(fields[i+1]); err != nil {
			return row{}, fault(-1, "%q is not a whole number", fields[i+1])
		}
	}
	width, height, category := numbers[0], numbers[1], numbers[6]
	if category < 0 || category > tsrdMaxCategory {
		return row{}, fault(-1, "category %d is out of range 0 … %d", category, tsrdMaxCategory)
	}
	if box := numbers[2:6]; box[2] >= width || box[3] >= height {
		return row{}, fault(-1, "box to (%d, %d) leaves the image of %d × %d pixels", box[2], box[3], width, height)
	}
	if reason := nameFault(name); reason != "" {
		return row{}, fault(-1, "%s", reason)
	}
	return makeRow(path.Join(p.folder, name), fmt.Sprintf("%03d", category), string(p.split), numbers[2:6], limits)
}
