package event

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"cordon/internal/printable"
)

const (
	redrawEvery = 100 * time.Millisecond // of the bar
	lineEvery   = 5 * time.Second        // where there is no terminal
	barWidth    = 20                     // characters
	clearLine   = "\r\x1b[K"
)

// Terminal is a sink for people. On a terminal it keeps a progress bar in the
// last line; elsewhere progress is a plain line every five seconds at most.
type Terminal struct {
	w     io.Writer
	width func() int // of the terminal in characters; nil where there is none
	pace  pace
	stage string    // whose progress was last heard of
	last  time.Time // when progress was shown, or the stage changed
	bar   bool      // a bar is in the last line
}

// NewTerminal returns the sink that writes to w, usually os.Stderr. Errors of
// writing are ignored: a closed terminal must not end a run.
func NewTerminal(w io.Writer) *Terminal {
	t := &Terminal{w: w, pace: pace{}}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.width = func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil || width < 1 {
				return 80
			}
			return width
		}
	}
	return t
}

// Send shows the event.
func (t *Terminal) Send(e Event) {
	e = stamp(e)
	t.pace.see(e)
	if e.Type == Progress {
		t.progress(e)
		return
	}
	if e.Type == StageStart || e.Type == Resumed {
		t.stage, t.last = e.Stage, e.Time
	}
	t.line(t.text(e))
}

// progress shows the bar or the line, if the last one is old enough.
func (t *Terminal) progress(e Event) {
	every := lineEvery
	if t.width != nil {
		every = redrawEvery
	}
	if e.Stage != t.stage { // what ends at once needs no line
		t.stage, t.last = e.Stage, e.Time
	}
	if e.Time.Sub(t.last) < every {
		return
	}
	t.last = e.Time
	status := e.Stage + ": " + join(t.count(e), epochs(e), figures(e.Values), t.speed(e))
	if t.width == nil {
		t.line(status)
		return
	}
	text := []rune(printable.Line(drawBar(e) + status))
	text = text[:min(len(text), t.width()-1)]
	fmt.Fprint(t.w, clearLine, string(text))
	t.bar = true
}

// line writes a whole line in place of the bar.
func (t *Terminal) line(text string) {
	if t.bar {
		fmt.Fprint(t.w, clearLine)
		t.bar = false
	}
	fmt.Fprintln(t.w, printable.Text(text))
}

// text says what happened, for every type but Progress.
func (t *Terminal) text(e Event) string {
	stage := e.Stage + ": "
	switch e.Type {
	case StageStart:
		if e.Message != "" {
			return stage + e.Message
		}
		return stage + join("started", t.count(e))
	case EpochDone:
		return stage + join(epochs(e)+" done", figures(e.Values))
	case StageDone:
		done := "done"
		if from, known := t.pace[e.Stage]; known {
			done += " in " + Duration(e.Time.Sub(from.time))
		}
		return stage + join(done, figures(e.Values))
	case StageSkip:
		return stage + "already complete"
	case Resumed:
		return stage + join("continued from the last checkpoint", t.count(e))
	default:
		return join(e.Message, figures(e.Values))
	}
}

// count is "1200/4000 images (30 %)".
func (t *Terminal) count(e Event) string {
	switch {
	case e.Total > 0 && e.Done > 0:
		return strings.TrimSpace(fmt.Sprintf("%d/%d %s", e.Done, e.Total, e.Unit)) + fmt.Sprintf(" (%d %%)", int(100*fraction(e)))
	case e.Total > 0:
		return strings.TrimSpace(fmt.Sprintf("%d %s", e.Total, e.Unit))
	case e.Done > 0:
		return strings.TrimSpace(fmt.Sprintf("%d %s", e.Done, e.Unit))
	}
	return ""
}

// speed is "812 images/s, 3 min 05 s left".
func (t *Terminal) speed(e Event) string {
	rate, left := t.pace.rate(e), t.pace.left(e)
	if rate == 0 {
		return ""
	}
	text := fmt.Sprintf("%.3g %s/s", rate, e.Unit)
	if rate >= 100 {
		text = fmt.Sprintf("%.0f %s/s", rate, e.Unit)
	}
	if left > 0 {
		text += ", " + Duration(left) + " left"
	}
	return text
}

func epochs(e Event) string {
	switch {
	case e.Epoch == 0:
		return ""
	case e.Epochs == 0:
		return fmt.Sprintf("epoch %d", e.Epoch)
	}
	return fmt.Sprintf("epoch %d/%d", e.Epoch, e.Epochs)
}

// figures is "accuracy 0.91, loss 0.2".
func figures(values map[string]float64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, fmt.Sprintf("%s %.4g", strings.ReplaceAll(name, "_", " "), values[name]))
	}
	return join(list...)
}

func drawBar(e Event) string {
	if e.Total <= 0 {
		return ""
	}
	full := int(barWidth * fraction(e))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] "
}

// fraction of the stage that is done, 0 to 1.
func fraction(e Event) float64 {
	return max(0, min(1, float64(e.Done)/float64(e.Total)))
}

// join puts commas between the texts that are not empty.
func join(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), ", ")
}
