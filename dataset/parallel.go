package dataset

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// inParallel calls do(0) … do(n-1) on all cores. Indices are handed out in
// order and none is dropped once started, so the error returned is that of the
// lowest index that fails, whatever the number of cores. progress may be nil.
func inParallel(ctx context.Context, n int, progress func(done, total int), do func(i int) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	var state tally
	for i := 0; i < n && ctx.Err() == nil && !state.failed(); i++ {
		group.Go(func() error {
			state.add(i, n, do(i), progress)
			return nil
		})
	}
	group.Wait()
	if state.err != nil {
		return state.err
	}
	return ctx.Err()
}

// tally collects what became of the calls.
type tally struct {
	mu    sync.Mutex
	done  int
	index int   // of err
	err   error // that of the lowest failed index
}

func (t *tally) add(i, total int, err error, progress func(done, total int)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	if err != nil && (t.err == nil || i < t.index) {
		t.index, t.err = i, err
	}
	if progress != nil {
		progress(t.done, total)
	}
}

func (t *tally) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil
}
