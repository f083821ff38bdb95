// Package event carries what a long run has to say while it runs.
//
// Libraries never print: they send events to a Sink. The terminal, a log of
// JSON lines and tests are sinks.
//
// # The JSON stream, version 1
//
// NewJSON writes one object a line. The first line of every stream is
//
//	{"type":"schema","version":1}
//
// and every later one is an event with these members; those that are zero or
// empty are left out:
//
//	type          one of the event types below
//	time          RFC 3339 with fractions of a second
//	stage         "base", "partial", "partial/score", "repair", …
//	done, total   how much of the stage is done, counted in unit
//	unit          "images", …
//	epoch, epochs the epoch, counted from 1, and their number
//	values        an object of named numbers; null stands for NaN and ±Inf
//	message       a text for people
//	rate          progress only: units per second since the stage started or
//	              was resumed
//	seconds_left  progress only: the time left at that rate
//
// Readers ignore members and types they do not know; a change that would
// break them raises the version.
package event

import "time"

// Event is one thing that happened. Type decides which fields are set.
type Event struct {
	Type  Type      `json:"type"`
	Time  time.Time `json:"time"`
	Stage string    `json:"stage,omitempty"` // "base", "partial", "partial/score", "repair", …
	// Done and Total count images (or what Unit says) of the stage so far.
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Unit  string `json:"unit,omitempty"`
	// Epoch counts from 1; Epochs is the stage's number of epochs.
	Epoch  int `json:"epoch,omitempty"`
	Epochs int `json:"epochs,omitempty"`
	// Values holds named figures: "loss", "accuracy", "learning_rate", ….
	Values map[string]float64 `json:"values,omitempty"`
	// Message is for people.
	Message string `json:"message,omitempty"`
}

// Type names the kind of an Event. The list is part of the --json schema.
type Type string

// The event types.
const (
	StageStart Type = "stage_start" // Stage, Total, Unit, Message: what will be done
	Progress   Type = "progress"    // Stage, Done, Total, Unit, Epoch, Epochs, Values
	EpochDone  Type = "epoch_done"  // Stage, Epoch, Epochs, Values
	StageDone  Type = "stage_done"  // Stage, Done, Unit, Values
	StageSkip  Type = "stage_skip"  // Stage: already complete, from an earlier run
	Resumed    Type = "resumed"     // Stage, Done, Total: continuing from a checkpoint
	Note       Type = "note"        // Message
	Result     Type = "result"      // Message, Values: the last event of a command
)

// Sink receives events. Send is called from one goroutine at a time and
// must not block for long.
type Sink interface{ Send(Event) }

// Tee returns a sink that sends every event to all of the sinks, in order.
func Tee(sinks ...Sink) Sink { return tee(sinks) }

type tee []Sink

func (t tee) Send(e Event) {
	for _, s := range t {
		s.Send(e)
	}
}

// stamp fills in the time of an event whose sender left it zero.
func stamp(e Event) Event {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	return e
}

// Discard is the sink that drops everything.
var Discard Sink = discard{}

type discard struct{}

func (discard) Send(Event) {}
