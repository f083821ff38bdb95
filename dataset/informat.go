package dataset

import "slices"

// InFormat returns the set for Write in another format: with its classes, and so
// its labels, in the order in which the format is read back. The images are s's.
func (s *Set) InFormat(format string) *Set {
	out := *s
	out.Format, out.Classes = format, slices.Clone(s.Classes)
	switch format {
	case formatFolder:
		slices.Sort(out.Classes)
	case formatCSV, formatJSONL:
		sortClasses(out.Classes)
	}
	if slices.Equal(out.Classes, s.Classes) {
		return &out
	}
	place := make(map[string]int32, len(out.Classes))
	for to, class := range out.Classes {
		place[class] = int32(to)
	}
	out.superclass = nil // in the old order, and CIFAR-100 keeps it
	out.Labels = make([]int32, s.Len())
	for i, label := range s.Labels {
		out.Labels[i] = place[s.Classes[label]]
	}
	return &out
}
