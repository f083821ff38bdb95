package event

import (
	"fmt"
	"time"
)

// pace measures how fast the stages go; one may run inside another.
type pace map[string]begin

// begin is where the measurement of a stage starts.
type begin struct {
	time time.Time
	done int64
	seen int64 // done by the latest event
}

// see follows the events of a run. Work done before a resumption took no
// time of this run, so a Resumed event starts the measurement anew; so does
// scoring after another epoch, which counts from 0 again.
func (p pace) see(e Event) {
	last, known := p[e.Stage]
	switch {
	case e.Type == StageStart, e.Type == Resumed, e.Type == Progress && (!known || e.Done < last.seen):
		last = begin{time: e.Time, done: e.Done}
	case !known:
		return
	}
	last.seen = e.Done
	p[e.Stage] = last
}

// rate returns units per second, 0 while it is unknown.
func (p pace) rate(e Event) float64 {
	from := p[e.Stage]
	seconds := e.Time.Sub(from.time).Seconds()
	if seconds <= 0 || e.Done <= from.done {
		return 0
	}
	return (float64(e.Done) - float64(from.done)) / seconds
}

// left returns the time left, 0 while it is unknown.
func (p pace) left(e Event) time.Duration {
	rate := p.rate(e)
	if rate == 0 || e.Done >= e.Total {
		return 0
	}
	seconds := (float64(e.Total) - float64(e.Done)) / rate
	const year = 365 * 24 * 3600
	return time.Duration(min(seconds, year) * float64(time.Second))
}

// Duration writes a time for people: "0.4 s", "42 s", "3 min 05 s", "2 h 07 min".
func Duration(d time.Duration) string {
	if d < 10*time.Second {
		if d = d.Round(100 * time.Millisecond); d < 10*time.Second {
			return fmt.Sprintf("%.1f s", d.Seconds())
		}
	}
	if d = d.Round(time.Second); d < time.Minute {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	if d < time.Hour {
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
}
