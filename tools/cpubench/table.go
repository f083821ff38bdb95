package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"cordon/internal/atomicfile"
)

// The marks in the file: what stands outside is written by people.
const (
	beginMark = "<!-- make bench writes from here -->"
	endMark   = "<!-- to here -->"
)

// table is what a run has measured so far.
type table struct {
	machine examined
	rounds  int
	file    string // where it goes, empty for nowhere
	results []outcome
}

func (t *table) heading() string {
	return strings.Join(t.machine.lines(), "\n") + "\n\n" +
		fmt.Sprintf("%-60s %-4s %8s %8s  %-22s %s\n", "model, batch, input", "type", "cordon", "rival", "ratio (rounds)", "target; memory; products; rival")
}

// line is a row on the terminal.
func (t *table) line(o outcome) string {
	return fmt.Sprintf("%-60s %-4s %8.1f %8.1f  %-22s %s; %s; %s; %s",
		o.row.title, o.precision, o.rate, o.best, o.ratio(), t.verdict(o), o.memory(), t.share(o), o.rival)
}

// ratio is the median with the range of the rounds.
func (o outcome) ratio() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(o.ratios), o.ratios[0], o.ratios[len(o.ratios)-1])
}

func (t *table) verdict(o outcome) string {
	target := o.row.targets.of(o.precision, t.machine.vectors)
	if target == 0 {
		return "none"
	}
	if median(o.ratios) >= target {
		return fmt.Sprintf("≥ %g met", target)
	}
	return fmt.Sprintf("≥ %g missed", target)
}

func (o outcome) memory() string {
	if o.row.rival != nil {
		return "–"
	}
	return fmt.Sprintf("%.0f / %.0f", o.peak, o.rivalPeak)
}

// share is the part of cordon's time that direct convolutions would take at the
// speed of large products: above 100 % where Winograd's multiplies less.
func (t *table) share(o outcome) string {
	if o.row.rival != nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*o.row.own.products()*o.rate/1e9/t.machine.gflops[o.precision])
}

// write puts the table between the marks of its file.
func (t *table) write() error {
	if t.file == "" {
		return nil
	}
	old, err := os.ReadFile(t.file)
	if err != nil {
		return err
	}
	text, err := between(string(old), t.markdown(time.Now()))
	if err != nil {
		return fmt.Errorf("%s: %w", t.file, err)
	}
	return atomicfile.Write(t.file, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// between replaces what stands between the marks.
func between(text, body string) (string, error) {
	head, rest, ok := strings.Cut(text, beginMark)
	_, tail, ends := strings.Cut(rest, endMark)
	if !ok || !ends {
		return "", fmt.Errorf("lacks the lines %q and %q", beginMark, endMark)
	}
	return head + beginMark + "\n\n" + body + "\n" + endMark + tail, nil
}

func (t *table) markdown(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "`make bench-peers`, then `make bench ROUNDS=%d%s`, %s.\n\n", t.rounds, t.eager(), now.Format(time.DateOnly))
	for _, line := range t.machine.lines() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n| model, batch, input | type | cordon, images/s | rival, images/s | ratio (rounds) | target | MiB, cordon / rival | products | rival |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, o := range t.results {
		fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %s | %s | %s | %s | %s |\n",
			o.row.title, o.precision, o.rate, o.best, o.ratio(), t.verdict(o), o.memory(), t.share(o), o.rival)
	}
	b.WriteString(t.trials())
	return b.String()
}

// eager says so in the command where nothing was compiled.
func (t *table) eager() string {
	if slices.ContainsFunc(t.machine.peers, func(p peer) bool { return p.compiles }) {
		return ""
	}
	return " EAGER=1"
}

// trials is the table of all rivals' rates before the rounds, a column each.
func (t *table) trials() string {
	var b strings.Builder
	for _, o := range t.results {
		if len(o.trials) == 0 {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\nEvery way of PyTorch before the rounds, images/s, the better of two short tries:\n\n| model, batch, input | type |")
			for _, c := range o.trials {
				fmt.Fprintf(&b, " %s |", c.name)
			}
			b.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(o.trials)) + "\n")
		}
		fmt.Fprintf(&b, "| %s | %s |", o.row.title, o.precision)
		for _, c := range o.trials {
			if c.rate == 0 {
				b.WriteString(" failed |")
			} else {
				fmt.Fprintf(&b, " %.0f |", c.rate)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
