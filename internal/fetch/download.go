package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cordon/internal/event"
)

const (
	maxRedirects = 5
	// maxTries is how often in a row a request may fail without bringing
	// minProgress bytes.
	maxTries    = 4
	minProgress = 1 << 16
)

// NewClient returns a client for downloads: it follows a few redirects, never
// from https to anything else, and leaves the content as it is.
func NewClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	transport.ResponseHeaderTimeout = time.Minute
	return &http.Client{Transport: transport, CheckRedirect: checkRedirect}
}

func checkRedirect(to *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL.Scheme
	switch {
	case len(via) > maxRedirects:
		return final{fmt.Errorf("over %d redirects", maxRedirects)}
	case to.URL.Scheme != "https" && to.URL.Scheme != from:
		return final{fmt.Errorf("redirect from %s to %s is refused", from, to.URL.Scheme)}
	}
	return nil
}

// final is an error that trying again does not help.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// loader downloads one file.
type loader struct {
	Options
	download Download
	path     string // the file to make; path + ".part" holds what is there so far
	most     int64  // bytes
}

// run downloads from the first address that works. What is there already is
// kept, also after an error or an interruption.
func (l *loader) run(ctx context.Context) error {
	if _, err := os.Stat(l.path); err == nil {
		return nil // checked before it got its name, if it has a sum
	}
	part, err := os.OpenFile(l.path+".part", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer part.Close()
	if err := unix.Flock(int(part.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s: another process is downloading to it: %w", part.Name(), err)
	}
	var failed []error
	for _, url := range l.download.URLs {
		if err = l.from(ctx, url, part); err == nil {
			return l.finish(part)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = append(failed, fmt.Errorf("%s: %w", url, err))
	}
	return errors.Join(failed...)
}

// finish gives the file its name.
func (l *loader) finish(part *os.File) error {
	if err := part.Sync(); err != nil {
		return err
	}
	return os.Rename(part.Name(), l.path)
}

// from downloads from one address until the file is whole and right.
func (l *loader) from(ctx context.Context, url string, part *os.File) error {
	resumed, err := size(part)
	if err != nil {
		return err
	}
	if resumed > 0 && l.download.SHA256 != "" && l.check(ctx, part) == nil {
		return nil // killed just before it got its name
	}
	for {
		if err := l.complete(ctx, url, part); err != nil {
			return err
		}
		err := l.check(ctx, part)
		if !errors.Is(err, ErrSum) {
			return err
		}
		if err := part.Truncate(0); err != nil {
			return err
		}
		if resumed == 0 {
			return err
		}
		resumed = 0 // the part may have been of another file: once from the start
	}
}

// check compares the part with the sum.
func (l *loader) check(ctx context.Context, part *os.File) error {
	if l.download.SHA256 == "" {
		return nil
	}
	sum, err := sumFile(ctx, part.Name())
	if err == nil && sum != l.download.SHA256 {
		err = fmt.Errorf("%w: %s, not %s", ErrSum, sum, l.download.SHA256)
	}
	return err
}

// complete sends requests until one ends well.
func (l *loader) complete(ctx context.Context, url string, part *os.File) error {
	for tries := 1; ; tries++ {
		before, err := size(part)
		if err != nil {
			return err
		}
		err = l.request(ctx, url, part)
		var no final
		if err == nil || ctx.Err() != nil || errors.As(err, &no) {
			return err
		}
		after, sizeErr := size(part)
		if sizeErr != nil {
			return sizeErr
		}
		if after >= before+minProgress {
			tries = 1
		}
		if tries == maxTries {
			return fmt.Errorf("given up after %d tries: %w", tries, err)
		}
		l.Events.Send(event.Event{Type: event.Note, Message: fmt.Sprintf("%s: %v; trying again", l.download.Name, err)})
		select {
		case <-time.After(l.Pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// request asks for what is missing and appends it.
func (l *loader) request(ctx context.Context, url string, part *os.File) error {
	have, err := size(part)
	if err != nil {
		return err
	}
	stalled := fmt.Errorf("no data for %s", event.Duration(l.Stall))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(l.Stall, func() { cancel(stalled) })
	defer watch.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return final{err}
	}
	if have > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	response, err := l.Client.Do(request)
	if err != nil {
		return because(ctx, err)
	}
	defer response.Body.Close()
	have, total, err := l.begin(response, part, have)
	if err != nil {
		return err
	}
	body := &counted{r: response.Body, done: have, read: func(done int64) {
		watch.Reset(l.Stall)
		l.Events.Send(event.Event{Type: event.Progress, Time: time.Now(), Stage: l.download.Name, Done: done / 1000, Total: max(total, 0) / 1000, Unit: "kB"})
	}}
	if _, err := io.Copy(part, io.LimitReader(body, l.most-have+1)); err != nil {
		var disk *fs.PathError
		if errors.As(err, &disk) {
			return final{err}
		}
		return because(ctx, err)
	}
	switch {
	case body.done > l.most:
		return final{errors.Join(fmt.Errorf("over %d bytes, more than the set can have", l.most), part.Truncate(0))}
	case total >= 0 && body.done != total:
		return fmt.Errorf("%d of %d bytes came", body.done, total)
	}
	return nil
}

// because returns why the request's context was cancelled, if it was.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// begin reads the header of an answer and sets the part to where its body
// belongs. total is -1 where the server does not say it.
func (l *loader) begin(response *http.Response, part *os.File, have int64) (start, total int64, err error) {
	switch code := response.StatusCode; {
	case code == http.StatusOK:
		start, total = 0, response.ContentLength
	case code == http.StatusPartialContent && have > 0:
		start, total, err = parseContentRange(response.Header.Get("Content-Range"))
		if err == nil && start != have {
			err = final{fmt.Errorf("server sends bytes from %d, asked for %d", start, have)}
		}
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0:
		err = errors.Join(errors.New("server has nothing after what is here: starting over"), part.Truncate(0))
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		err = fmt.Errorf("server answers %s", response.Status)
	default:
		err = final{fmt.Errorf("server answers %s", response.Status)}
	}
	if err == nil && total > l.most {
		err = final{fmt.Errorf("server offers %d bytes, more than the %d that the set can have", total, l.most)}
	}
	if err == nil {
		err = part.Truncate(start)
	}
	if err == nil {
		_, err = part.Seek(start, io.SeekStart)
	}
	return start, total, err
}

// parseContentRange reads "bytes 100-199/200", whose last number may be "*".
func parseContentRange(text string) (start, total int64, err error) {
	wrong := final{fmt.Errorf("server sends a wrong range %q", text)}
	span, size, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 || !strings.HasPrefix(text, "bytes ") {
		return 0, 0, wrong
	}
	start, err = strconv.ParseInt(first, 10, 63)
	end, err2 := strconv.ParseInt(last, 10, 63)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 63)
	}
	if err != nil || err2 != nil || err3 != nil || start < 0 || end < start || (total >= 0 && end >= total) {
		return 0, 0, wrong
	}
	return start, total, nil
}

// counted tells how much was read.
type counted struct {
	r    io.Reader
	done int64
	read func(done int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.read(c.done)
	return n, err
}

func size(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// DefaultDir is where a set goes if the user does not say: a folder of its name
// in the user's cache.
func DefaultDir(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "cordon", "data", name), nil
}
