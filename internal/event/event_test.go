package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// run is a resumed stage: 100 images were done before, 100 a second now.
func run() []Event {
	return []Event{
		{Type: StageStart, Time: at(0), Stage: "base", Total: 2000, Unit: "images", Message: "training M_s"},
		{Type: Resumed, Time: at(1), Stage: "base", Done: 100, Total: 2000, Unit: "images"},
		{Type: Progress, Time: at(1.05), Stage: "base", Done: 105, Total: 2000, Unit: "images", Epoch: 1, Epochs: 2},
		{Type: Progress, Time: at(6), Stage: "base", Done: 600, Total: 2000, Unit: "images", Epoch: 1, Epochs: 2,
			Values: map[string]float64{"loss": 1.25}},
		{Type: Progress, Time: at(8), Stage: "base", Done: 800, Total: 2000, Unit: "images", Epoch: 1, Epochs: 2},
		{Type: EpochDone, Time: at(10), Stage: "base", Epoch: 1, Epochs: 2,
			Values: map[string]float64{"loss": math.NaN(), "accuracy": .5, "worst_loss": math.Inf(1)}},
		{Type: StageDone, Time: at(20), Stage: "base", Done: 2000, Unit: "images"},
		{Type: StageSkip, Time: at(21), Stage: "partial"},
		{Type: Note, Time: at(22), Message: "bad\x1b[2Jname\u202e"},
		{Type: Result, Time: at(23), Message: "finished", Values: map[string]float64{"ACC": .9}},
	}
}

func TestTerminalPlain(t *testing.T) {
	var b bytes.Buffer
	sink := NewTerminal(&b)
	for _, e := range run() {
		sink.Send(e)
	}
	want := `base: training M_s
base: continued from the last checkpoint, 100/2000 images (5 %)
base: 600/2000 images (30 %), epoch 1/2, loss 1.25, 100 images/s, 14 s left
base: epoch 1/2 done, accuracy 0.5, loss NaN, worst loss +Inf
base: done in 19 s
partial: already complete
bad�[2Jname�
finished, ACC 0.9
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestTerminalBar(t *testing.T) {
	var b bytes.Buffer
	sink := NewTerminal(&b)
	sink.width = func() int { return 50 }
	for _, e := range run()[:6] {
		sink.Send(e)
	}
	want := "base: training M_s\n" +
		"base: continued from the last checkpoint, 100/2000 images (5 %)\n" +
		"\r\x1b[K[######..............] base: 600/2000 images (30 " +
		"\r\x1b[K[########............] base: 800/2000 images (40 " +
		"\r\x1b[Kbase: epoch 1/2 done, accuracy 0.5, loss NaN, worst loss +Inf\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
}

// Events that say little or nonsense must not upset the sinks.
func TestTerminalOddEvents(t *testing.T) {
	var b bytes.Buffer
	sink := NewTerminal(&b)
	sink.width = func() int { return 1 }
	for _, e := range []Event{
		{}, {Type: "new"}, {Type: Progress}, {Type: StageDone}, {Type: EpochDone},
		{Type: Progress, Time: at(1e6), Stage: "x", Done: -5, Total: 3},
		{Type: Progress, Time: at(2e6), Stage: "x", Done: math.MaxInt64, Total: 1},
		{Type: Progress, Time: at(3e6), Stage: "x", Done: math.MinInt64, Total: -1},
		{Type: Progress, Time: at(4e6), Stage: "x", Done: 1, Total: math.MaxInt64},
	} {
		sink.Send(e)
	}
}

func lines(t *testing.T, text string) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, m)
	}
	return list
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	sink := NewJSON(&b)
	for _, e := range run() {
		sink.Send(e)
	}
	if sink.Err() != nil {
		t.Fatal(sink.Err())
	}
	if want := "{\"type\":\"schema\",\"version\":1}\n"; !strings.HasPrefix(b.String(), want) {
		t.Errorf("stream begins %q", b.String()[:len(want)])
	}
	got := lines(t, b.String())
	if len(got) != 1+len(run()) {
		t.Fatalf("%d lines for %d events", len(got), len(run()))
	}
	progress := map[string]any{
		"type": "progress", "time": "2024-05-01T12:00:06Z", "stage": "base",
		"done": 600., "total": 2000., "unit": "images", "epoch": 1., "epochs": 2.,
		"values": map[string]any{"loss": 1.25}, "rate": 100., "seconds_left": 14.,
	}
	if !reflect.DeepEqual(got[4], progress) {
		t.Errorf("progress is %v, want %v", got[4], progress)
	}
	values := map[string]any{"accuracy": .5, "loss": nil, "worst_loss": nil}
	if !reflect.DeepEqual(got[6]["values"], values) {
		t.Errorf("values are %v, want %v", got[6]["values"], values)
	}
	skip := map[string]any{"type": "stage_skip", "time": "2024-05-01T12:00:21Z", "stage": "partial"}
	if !reflect.DeepEqual(got[8], skip) {
		t.Errorf("skip is %v, want %v", got[8], skip)
	}
}

// A stage inside another does not disturb the outer one's rate.
func TestPaceOfNestedStages(t *testing.T) {
	p := pace{}
	for _, e := range []Event{
		{Type: StageStart, Time: at(0), Stage: "base"},
		{Type: Progress, Time: at(1), Stage: "base", Done: 10},
		{Type: StageStart, Time: at(2), Stage: "score"},
		{Type: StageDone, Time: at(3), Stage: "score"},
	} {
		p.see(e)
	}
	e := Event{Type: Progress, Time: at(4), Stage: "base", Done: 20, Total: 30}
	if rate, left := p.rate(e), p.left(e); rate != 5 || left != 2*time.Second {
		t.Errorf("rate %g, left %v, want 5 and 2 s", rate, left)
	}
}

// Scoring after a second epoch counts from 0 again, and so does its time.
func TestPaceOfRepeatedStage(t *testing.T) {
	p := pace{}
	e := Event{Type: Progress, Stage: "score", Total: 40}
	for _, c := range []struct{ second, done float64 }{{0, 0}, {1, 40}, {100, 0}, {101, 20}} {
		e.Time, e.Done = at(c.second), int64(c.done)
		p.see(e)
	}
	if rate, left := p.rate(e), p.left(e); rate != 20 || left != time.Second {
		t.Errorf("rate %g, left %v, want 20 and 1 s", rate, left)
	}
}

func TestEventMarshal(t *testing.T) {
	text, err := json.Marshal(Event{Type: Note, Time: start, Values: map[string]float64{"x": math.Inf(-1)}})
	if want := `{"type":"note","time":"2024-05-01T12:00:00Z","values":{"x":null}}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}

type failing struct{ writes int }

func (f *failing) Write([]byte) (int, error) {
	f.writes++
	return 0, errors.New("no space left")
}

func TestJSONStopsAtError(t *testing.T) {
	w := &failing{}
	sink := NewJSON(w)
	sink.Send(Event{Type: Note})
	if sink.Err() == nil || w.writes != 1 {
		t.Errorf("error %v after %d writes", sink.Err(), w.writes)
	}
}

func TestTee(t *testing.T) {
	var a, b bytes.Buffer
	Tee(NewJSON(&a), NewTerminal(&b)).Send(Event{Type: Note, Message: "hello"})
	if !strings.Contains(a.String(), `"hello"`) || b.String() != "hello\n" {
		t.Errorf("sinks got %q and %q", a.String(), b.String())
	}
	e := lines(t, a.String())[1]
	if sent, err := time.Parse(time.RFC3339Nano, e["time"].(string)); err != nil || time.Since(sent) > time.Minute {
		t.Errorf("time was not filled in: %v", e["time"])
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                           "0.0 s",
		440 * time.Millisecond:      "0.4 s",
		9940 * time.Millisecond:     "9.9 s",
		9960 * time.Millisecond:     "10 s",
		59400 * time.Millisecond:    "59 s",
		59600 * time.Millisecond:    "1 min 00 s",
		185 * time.Second:           "3 min 05 s",
		3599600 * time.Millisecond:  "1 h 00 min",
		2*time.Hour + 7*time.Minute: "2 h 07 min",
		100 * time.Hour:             "100 h 00 min",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
}
