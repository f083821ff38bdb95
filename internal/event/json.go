package event

import (
	"encoding/json"
	"io"
	"math"
)

// Version is the version of the JSON stream.
const Version = 1

// JSON is a sink that writes one JSON object a line; see the package comment.
type JSON struct {
	w    io.Writer
	pace pace
	err  error
}

// NewJSON starts a stream: it writes the line that names the schema.
func NewJSON(w io.Writer) *JSON {
	j := &JSON{w: w, pace: pace{}}
	j.write(struct {
		Type    Type `json:"type"`
		Version int  `json:"version"`
	}{"schema", Version})
	return j
}

// Send writes the event. After an error nothing more is written.
func (j *JSON) Send(e Event) {
	e = stamp(e)
	j.pace.see(e)
	r := newRecord(e)
	if e.Type == Progress {
		r.Rate, r.SecondsLeft = j.pace.rate(e), j.pace.left(e).Seconds()
	}
	j.write(r)
}

// Err returns the first error of writing.
func (j *JSON) Err() error { return j.err }

func (j *JSON) write(v any) {
	if j.err != nil {
		return
	}
	line, err := json.Marshal(v)
	if err == nil {
		_, err = j.w.Write(append(line, '\n'))
	}
	j.err = err
}

// MarshalJSON writes the event as the package comment says.
func (e Event) MarshalJSON() ([]byte, error) { return json.Marshal(newRecord(e)) }

// record is an Event as JSON. Its Values take the place of the event's.
type record struct {
	fields
	Values      map[string]*float64 `json:"values,omitempty"`
	Rate        float64             `json:"rate,omitempty"`
	SecondsLeft float64             `json:"seconds_left,omitempty"`
}

type fields Event // without MarshalJSON

// newRecord turns figures that JSON cannot hold into null.
func newRecord(e Event) record {
	values := make(map[string]*float64, len(e.Values))
	for name, v := range e.Values {
		values[name] = nil
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			values[name] = &v
		}
	}
	return record{fields: fields(e), Values: values}
}
