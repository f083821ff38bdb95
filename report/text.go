package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"cordon/internal/printable"
)

// columns is the width that Table keeps to.
const columns = 80

// Table writes the report as plain text of at most 80 columns: the models, how
// well the poison was isolated (with truth only), and the time of each stage.
func Table(w io.Writer, r *Report) error {
	var b bytes.Buffer
	writeHead(&b, r)
	writeModels(&b, r.Models)
	writeFound(&b, r)
	writeEpochs(&b, r)
	writeParts(&b, r)
	writeStages(&b, r.Stages)
	_, err := w.Write(b.Bytes())
	return err
}

func writeHead(b *bytes.Buffer, r *Report) {
	d := r.Data
	samples := grouped(int64(d.Samples))
	if d.SampledFrom > d.Samples {
		samples += " of " + grouped(int64(d.SampledFrom))
	}
	fmt.Fprintf(b, "%-10s%s\n", "data", clip(d.Name, columns-10))
	fmt.Fprintf(b, "%-10s%s training samples of %d×%d×%d, %d classes\n",
		"", samples, d.Height, d.Width, d.Channels, len(d.Classes))
	fmt.Fprintf(b, "%-10s%s\n", "isolated", isolatedText(r))
	if t := r.Truth; t != nil {
		fmt.Fprintf(b, "%-10s%s\n", "attack", clip(t.Attack, columns-10))
		fmt.Fprintf(b, "%-10s%s poisoned (%s), target %s\n", "",
			grouped(int64(t.Poisoned)), t.PoisonRate.percent(), clip(r.target(), 24))
	}
}

// isolatedText is "10 % of the training samples (6,000)".
func isolatedText(r *Report) string {
	return fmt.Sprintf("%s of the training samples (%s)",
		r.Isolation.Rate.percent(), grouped(int64(r.Isolation.Count)))
}

// target says what the poisoning aims at: "several" if it has several parts and
// any of them has a target.
func (r *Report) target() string {
	if len(r.Truth.Parts) > 1 && slices.ContainsFunc(r.Truth.Parts, func(p Part) bool { return p.Target >= 0 }) {
		return "several"
	}
	return r.className(r.Truth.Target)
}

// className is the name of the class that a part aims at; label noise and
// all-to-all have none.
func (r *Report) className(target int) string {
	if target < 0 || target >= len(r.Data.Classes) {
		return "none"
	}
	return r.Data.Classes[target]
}

func writeModels(b *bytes.Buffer, models []Model) {
	if len(models) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%-36s%11s%11s%11s%11s\n", "model", "ACC", "ASR", "floor", "RA")
	for _, m := range models {
		fmt.Fprintf(b, "%s%11s%11s%11s%11s\n", cell(m.Name, 36),
			fixed4(m.ACC), fixed4(m.ASR), fixed4(m.Floor), fixed4(m.RA))
		for i, p := range m.Parts {
			fmt.Fprintf(b, "%s%11s%11s%11s%11s\n", cell(fmt.Sprintf("  part %d", i+1), 36),
				"", fixed4(p.ASR), fixed4(p.Floor), fixed4(p.RA))
		}
	}
}

// shownRankings is how many rankings fit side by side.
const shownRankings = 3

func writeFound(b *bytes.Buffer, r *Report) {
	if r.Truth == nil || len(r.Truth.Rankings) == 0 {
		return
	}
	rankings := r.Truth.Rankings
	rankings = rankings[:min(len(rankings), shownRankings)]
	row := func(name string, figure func(Ranking) string) {
		b.WriteString(cell(name, 32))
		for _, k := range rankings {
			fmt.Fprintf(b, "%16s", figure(k))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	row("poison isolated", func(k Ranking) string { return clip(k.Name, 15) })
	row("precision", func(k Ranking) string { return k.Isolated.Precision.fixed(4) })
	row("  highest possible", func(k Ranking) string { return k.Isolated.Ceiling.fixed(4) })
	row("recall", func(k Ranking) string { return k.Isolated.Recall.fixed(4) })
	row("lift over random", func(k Ranking) string { return k.Isolated.Lift.fixed(2) })
	row("AUROC", func(k Ranking) string { return k.AUROC.fixed(4) })
	row("AUPRC", func(k Ranking) string { return k.AUPRC.fixed(4) })
}

// writeEpochs shows when the losses tell the poison apart.
func writeEpochs(b *bytes.Buffer, r *Report) {
	if r.Truth == nil {
		return
	}
	for _, k := range r.Truth.Rankings {
		if len(k.Epochs) < 2 {
			continue
		}
		fmt.Fprintf(b, "\n%s%11s%11s%18s%18s\n", cell("ranking "+k.Name, 22), "recall", "AUROC", "loss of poisoned", "of all others")
		for _, e := range k.Epochs {
			fmt.Fprintf(b, "%-22s%11s%11s%18s%18s\n", fmt.Sprintf("  epoch %d", e.Epoch),
				e.Recall.fixed(4), e.AUROC.fixed(4), e.PoisonedLoss.fixed(4), e.OtherLoss.fixed(4))
		}
	}
}

// writeParts shows how much of each part of the poisoning was isolated.
func writeParts(b *bytes.Buffer, r *Report) {
	if r.Truth == nil || len(r.Truth.Parts) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%-40s%18s%11s%11s\n", "part", "isolated", "recall", "AUROC")
	row := func(name string, isolated, all int, auroc string) {
		fmt.Fprintf(b, "%s%18s%11s%11s\n", cell(name, 40), clip(shareOf(isolated, all), 17), ratio(isolated, all).fixed(4), auroc)
	}
	for i, p := range r.Truth.Parts {
		name := fmt.Sprintf("%d  %s", i+1, p.Attack)
		if p.Target >= 0 {
			name += ", target " + r.className(p.Target)
		}
		row(name, p.Isolated, p.Poisoned, fixed4(p.AUROC))
		if p.Covers > 0 {
			row("   its cover samples", p.IsolatedCovers, p.Covers, "")
		}
	}
}

func shareOf(n, all int) string { return grouped(int64(n)) + " of " + grouped(int64(all)) }

// ratio is not a number for 0 of 0.
func ratio(n, all int) Number { return Number(float64(n) / float64(all)) }

func writeStages(b *bytes.Buffer, stages []Stage) {
	if len(stages) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%-32s%16s%16s%16s\n", "stage", "seconds", "images", "images/s")
	var total Number
	for _, s := range stages {
		fmt.Fprintf(b, "%s%16s%16s%16s\n", cell(s.Name, 32),
			s.Seconds.fixed(1), grouped(s.Images), s.ImagesPerSecond.fixed(0))
		total += s.Seconds
	}
	fmt.Fprintf(b, "%-32s%16s\n", "together", total.fixed(1))
}

// cell clips s and fills it up with spaces to width characters.
func cell(s string, width int) string {
	s = clip(s, width-1)
	return s + strings.Repeat(" ", width-utf8.RuneCountInString(s))
}

// clip makes s printable, since names come from hostile files, and cuts it to
// at most width characters.
func clip(s string, width int) string {
	s = printable.Line(s)
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	runes := []rune(s)
	return string(runes[:width-1]) + "…"
}
