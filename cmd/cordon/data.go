package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cordon/dataset"
	"cordon/internal/event"
)

// readData is openData, and lists the files that were left out.
func readData(ctx context.Context, dir string, opt dataset.Options, events event.Sink) (train, test *dataset.Set, err error) {
	train, test, err = openData(ctx, dir, opt, events)
	tellSkipped(events, train)
	tellSkipped(events, test)
	return train, test, err
}

// readTest opens the test split of dir, which must have one, and lists the files
// that were left out.
func readTest(ctx context.Context, dir string, opt dataset.Options, events event.Sink) (*dataset.Set, error) {
	opt.Progress = reading(events)
	test, err := openSplit(ctx, dir, dataset.Test, opt)
	tellSkipped(events, test)
	return test, err
}

func tellSkipped(events event.Sink, s *dataset.Set) {
	if s == nil {
		return
	}
	for _, bad := range s.Skipped {
		note(events, "left out: %s", bad.Error())
	}
}

// openData opens the training split of dir and, where there is one, the test
// split (nil otherwise).
func openData(ctx context.Context, dir string, opt dataset.Options, events event.Sink) (train, test *dataset.Set, err error) {
	opt.Progress = reading(events)
	train, err = openSplit(ctx, dir, dataset.Train, opt)
	if err != nil {
		return nil, nil, err
	}
	test, err = openSplit(ctx, dir, dataset.Test, opt)
	if errors.Is(err, dataset.ErrNoSplit) {
		return train, nil, nil
	}
	if err != nil {
		train.Close() // what it would say matters less
		return nil, nil, err
	}
	return train, test, nil
}

func openSplit(ctx context.Context, dir string, split dataset.Split, opt dataset.Options) (*dataset.Set, error) {
	set, err := dataset.Open(ctx, dir, split, opt)
	if err != nil {
		return nil, readingFailed(err, opt)
	}
	return set, nil
}

// readingFailed adds what to do about an error of reading.
func readingFailed(err error, opt dataset.Options) error {
	var bad *dataset.FormatError
	switch {
	case errors.Is(err, dataset.ErrNeedsSize):
		return &hinted{err, "--size N resizes every image to N × N pixels"}
	case errors.Is(err, dataset.ErrNoBoxes):
		return &hinted{err, "only TSRD and manifests with x1, y1, x2, y2 can be cut to boxes"}
	case errors.As(err, &bad) && opt.Store != "" && within(opt.Store, bad.Path):
		return &hinted{err, "remove this file and it is made again"}
	case errors.As(err, &bad) && !opt.SkipBad && isImage(bad.Path):
		return &hinted{err, "--skip-bad leaves bad image files out and lists them"}
	}
	return err
}

func isImage(path string) bool {
	return slices.Contains(dataset.Extensions(), strings.ToLower(filepath.Ext(path)))
}

// outside refuses to write to a path in the source, which stays as it is. Either
// may be empty.
func outside(data, path string) error {
	if data != "" && within(data, path) {
		return usagef("%s lies inside the source %s, which stays as it is", path, data)
	}
	return nil
}

// absent refuses to overwrite anything.
func absent(path string) error {
	if exists(path) {
		return &hinted{fmt.Errorf("%s: %w", path, fs.ErrExist), "nothing is overwritten: remove it or choose another name"}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// within tells whether path is dir or lies in it. Links are followed as far as
// the paths exist.
func within(dir, path string) bool {
	if path == "" {
		return false
	}
	rel, err := filepath.Rel(resolved(dir), resolved(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func resolved(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for rest := ""; ; {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Join(real, rest)
		}
		if path == filepath.Dir(path) {
			return filepath.Join(path, rest)
		}
		path, rest = filepath.Dir(path), filepath.Join(filepath.Base(path), rest)
	}
}

// reading turns a reader's progress into events, writing a writer's.
func reading(events event.Sink) func(done, total int) { return progress(events, "read") }
func writing(events event.Sink) func(done, total int) { return progress(events, "write") }

func progress(events event.Sink, stage string) func(done, total int) {
	var told time.Time
	return func(done, total int) {
		if time.Since(told) < 200*time.Millisecond && done < total {
			return
		}
		told = time.Now()
		events.Send(event.Event{Type: event.Progress, Time: told, Stage: stage, Done: int64(done), Total: int64(total), Unit: "images"})
	}
}

// describe says in one line what a set is.
func describe(train, test *dataset.Set) string {
	text := fmt.Sprintf("%s: %d training images of %d×%d×%d, %d classes",
		train.Name, train.Len(), train.Height, train.Width, train.Channels, len(train.Classes))
	if test == nil {
		return text + ", no test split"
	}
	return text + fmt.Sprintf(", %d test images", test.Len())
}

// note sends a line for people.
func note(events event.Sink, format string, args ...any) {
	events.Send(event.Event{Type: event.Note, Time: time.Now(), Message: fmt.Sprintf(format, args...)})
}
