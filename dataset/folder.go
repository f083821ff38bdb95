package dataset

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// listFolder lists a split of a folder of class folders. Classes and files are
// in the order of their names' bytes; the training split defines the classes.
func listFolder(s *source, entries []fs.DirEntry, split Split, opt Options) (*listing, error) {
	parts, err := splitFolders(s, entries)
	if err != nil {
		return nil, err
	}
	where, ok := parts[split]
	if !ok {
		return nil, noSplit(s, split)
	}
	l := &listing{source: s, format: formatFolder, skipBad: opt.SkipBad}
	return l, l.scan(where, parts)
}

// splitFolders finds the folder of each split. A folder named train or test is
// a split if it holds folders, or if there are no folders of other names;
// otherwise the top folder's folders are the classes.
func splitFolders(s *source, entries []fs.DirEntry) (map[Split]string, error) {
	parts := map[Split]string{}
	nested, others := false, false
	for _, e := range entries {
		if !s.isDir(e.Name(), e) {
			continue
		}
		split := Split(e.Name())
		if split != Train && split != Test {
			others = true
			continue
		}
		parts[split] = e.Name()
		below, err := s.list(e.Name(), s.limits.MaxSamples)
		if err != nil {
			return nil, err
		}
		nested = nested || slices.ContainsFunc(below, func(b fs.DirEntry) bool { return s.isDir(path.Join(e.Name(), b.Name()), b) })
	}
	switch {
	case len(parts) > 0 && (nested || !others):
		return parts, nil
	case others:
		return map[Split]string{Train: "."}, nil
	}
	return nil, s.locate(".", fault(-1, "found no IDX files, no CIFAR binary files, no manifest, no TSRD and no class folders"))
}

// scan lists the images in the folder of a split.
func (l *listing) scan(where string, parts map[Split]string) error {
	var err error
	classesIn := where
	if train, ok := parts[Train]; ok {
		classesIn = train
	}
	if l.classes, err = l.classFolders(classesIn, classesIn == where); err != nil {
		return err
	}
	present := l.classes
	if classesIn != where {
		if present, err = l.classFolders(where, true); err != nil {
			return err
		}
	}
	for _, class := range present {
		label, ok := slices.BinarySearch(l.classes, class)
		if !ok {
			return l.locate(path.Join(where, class), fault(-1, "class %q is not in the training split", class))
		}
		if err := l.class(path.Join(where, class), int32(label)); err != nil {
			return err
		}
	}
	return nil
}

// classFolders returns the names of the folders in where. Images that lie
// beside them are bad files, other files are ignored; strays says whether to
// look at them.
func (l *listing) classFolders(where string, strays bool) ([]string, error) {
	entries, err := l.list(where, l.limits.MaxSamples)
	if err != nil {
		return nil, err
	}
	var classes []string
	for _, e := range entries {
		name := path.Join(where, e.Name())
		switch {
		case l.isDir(name, e):
			if err := checkName(e.Name()); err != nil {
				return nil, l.locate(name, err)
			}
			classes = append(classes, e.Name())
		case strays:
			if err := l.stray(name, e); err != nil {
				return nil, err
			}
		}
	}
	if len(classes) > l.limits.MaxClasses {
		return nil, l.locate(where, fault(-1, "%d classes are over the limit of %d", len(classes), l.limits.MaxClasses))
	}
	return classes, nil
}

// stray refuses what may be meant as a class or an image but cannot be one.
func (l *listing) stray(name string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink != 0 {
		if _, err := l.root.Stat(name); err != nil {
			return l.bad(name, err)
		}
	}
	if slices.Contains(Extensions(), strings.ToLower(path.Ext(name))) {
		return l.bad(name, fault(-1, "image outside of a class folder"))
	}
	return nil
}

// class lists the files of one class folder.
func (l *listing) class(folder string, label int32) error {
	entries, err := l.list(folder, l.limits.MaxSamples)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return l.locate(folder, fault(-1, "class folder is empty"))
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if reason := nameFault(e.Name()); reason != "" {
			err = l.bad(name, fault(-1, "%s", reason))
		} else if l.isDir(name, e) {
			err = l.bad(name, fault(-1, "folder inside of a class folder"))
		} else {
			l.files = append(l.files, name)
			l.labels = append(l.labels, label)
		}
		if err != nil {
			return err
		}
	}
	if len(l.files) > l.limits.MaxSamples {
		return l.locate(folder, fault(-1, "over %d images", l.limits.MaxSamples))
	}
	return nil
}
