package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cordon/dataset"
	"cordon/internal/event"
)

// readData opens the training split of dir and, where there is one, the test
// split (nil otherwise).
func readData(ctx context.Context, dir string, opt dataset.Options, events event.Sink) (train, test *dataset.Set, err error) {
	opt.Progress = reading(events)
	train, err = dataset.Open(ctx, dir, dataset.Train, opt)
	if err != nil {
		return nil, nil, readingFailed(err, opt)
	}
	test, err = readTest(ctx, dir, opt)
	if errors.Is(err, dataset.ErrNoSplit) {
		return train, nil, nil
	}
	if err != nil {
		train.Close() // what it would say matters less
		return nil, nil, err
	}
	return train, test, nil
}

// readTest opens the test split of dir; it is an error if there is none.
func readTest(ctx context.Context, dir string, opt dataset.Options) (*dataset.Set, error) {
	set, err := dataset.Open(ctx, dir, dataset.Test, opt)
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
		return &hinted{err, "cordon clean --skip-bad leaves bad image files out and lists them"}
	}
	return err
}

func isImage(path string) bool {
	return slices.Contains(dataset.Extensions(), strings.ToLower(filepath.Ext(path)))
}

// checkStore refuses a store in the source, which stays as it is. Either may be
// empty.
func checkStore(data, store string) error {
	if data != "" && store != "" && within(data, store) {
		return usagef("the store %s lies inside the source %s, which stays as it is", store, data)
	}
	return nil
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
