package report

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cordon/dataset"
)

// keep writes the synthetic pages to a folder, to look at them.
const keep = "CORDON_KEEP_REPORT"

func writePage(t *testing.T, r *Report, v Evidence) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	if err := WriteHTML(path, r, v); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv(keep); dir != "" {
		name := strings.ReplaceAll(t.Name(), "/", "-") + ".html"
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

// wellFormed fails unless every element is closed: the page is written as XML
// that is also HTML.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			start := max(0, int(d.InputOffset())-200)
			t.Fatalf("not well-formed: %v\n…%s", err, page[start:d.InputOffset()])
		}
	}
}

// fetches matches everything that would make a browser load something.
var fetches = regexp.MustCompile(`(?i)<script|<link|<iframe|<object|<embed|@import|url\(|https?://|(src|href)="[^d]|javascript:`)

// notNumber matches what Go prints for figures that are none, outside pictures.
var notNumber = regexp.MustCompile(`[ >,"](NaN|[+-]Inf)\b`)

func selfContained(t *testing.T, page string) {
	t.Helper()
	if found := fetches.FindString(page); found != "" {
		t.Errorf("page is not self-contained: %q", found)
	}
}

func TestWriteHTML(t *testing.T) {
	common := []string{"10 % of the samples isolated; here is what they look like", `id="models"`, `id="pictures"`,
		`id="losses"`, `id="ranking"`, `id="training"`, `id="time"`, `id="next"`, `id="limits"`, `id="settings"`,
		"Which classes were isolated", "sha256:aabbccdd", "arch = ", "the lowest loss under M′ after its epoch 2"}
	truth := []string{`id="found"`, "<th>ASR</th>", "BadNets, dirty-label", "random order", "poisoned (200)", "<i>poisoned</i>", "0.9774"}
	for _, c := range []struct {
		name            string
		truth           bool
		present, absent []string
	}{
		{"with truth", true, append(truth, common...), nil},
		{"without truth", false, common, truth[:6]},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, v := synthetic()
			if !c.truth {
				r, v = withoutTruth(r, v)
			}
			page := writePage(t, r, v)
			wellFormed(t, page)
			selfContained(t, page)
			for _, s := range c.present {
				if !strings.Contains(page, s) {
					t.Errorf("page lacks %q", s)
				}
			}
			for _, s := range c.absent {
				if strings.Contains(page, s) {
					t.Errorf("page has %q", s)
				}
			}
			if n := strings.Count(page, `src="data:image/png;base64,`); n != 2*gallerySize {
				t.Errorf("%d pictures, want %d", n, 2*gallerySize)
			}
		})
	}
}

// Every string that comes from files must arrive as text.
func TestWriteHTMLEscapes(t *testing.T) {
	const evil = `<script>alert("x")</script>'"><img src=x onerror=alert(1)>` + "\x00\x1b[31m\u202e\xff"
	r, v := synthetic()
	v.Set.Files = make([]string, v.Set.Len())
	for i := range v.Set.Files {
		v.Set.Files[i] = "a/" + evil
	}
	for i := range v.Set.Classes {
		v.Set.Classes[i] = evil
	}
	for _, s := range []*string{&r.Tool, &r.Data.Name, &r.Data.Format, &r.Data.Fingerprint, &r.Recipe.TOML,
		&r.Recipe.Hash, &r.Machine.CPU, &r.Machine.Device, &r.Machine.Precision, &r.Machine.Engine,
		&r.Machine.Libtorch, &r.Stages[0].Name, &r.Curves[0].Stage, &r.Isolation.Ranking, &r.Isolation.Model,
		&r.Models[0].Name, &r.Models[0].File, &r.Truth.Attack, &r.Truth.Rankings[0].Name, &r.Limits[0], &r.NextSteps[0]} {
		*s = evil
	}
	page := writePage(t, r, v)
	wellFormed(t, page)
	for _, bad := range []string{"<script", "<img src=x", "\x00", "\x1b", "\u202e", "\xff"} {
		if strings.Contains(page, bad) {
			t.Errorf("page has %q", bad)
		}
	}
	if n := strings.Count(page, "&lt;script&gt;"); n < 3*gallerySize {
		t.Errorf("hostile names appear %d times as text, want them all", n)
	}
}

// A run that diverged, has one epoch, or has nothing must still give a page.
func TestWriteHTMLOddRuns(t *testing.T) {
	nan := Number(math.NaN())
	for name, change := range map[string]func(*Report, *Evidence){
		"empty":      func(r *Report, v *Evidence) { *r, *v = Report{}, Evidence{} },
		"no picture": func(_ *Report, v *Evidence) { *v = Evidence{} },
		"one epoch":  func(r *Report, _ *Evidence) { r.Curves = []Curve{syntheticCurve("base", 1, 1)} },
		"diverged": func(r *Report, v *Evidence) {
			for i := range v.PartialLoss {
				v.PartialLoss[i] = float32(math.NaN())
			}
			r.Curves[0].Epochs[2].Loss, r.Curves[1].Epochs[0].Loss = nan, Number(math.Inf(1))
			r.Stages[0].ImagesPerSecond, r.Isolation.Rate, r.Models[0].ACC = nan, nan, &nan
			r.Isolation.Threshold = &nan
			r.Losses.Partial = NewHistogram(v.PartialLoss, v.Poisoned)
		},
		"huge figures": func(r *Report, v *Evidence) {
			r.Curves[0].Epochs[2].Loss, r.Curves[0].Epochs[3].Loss = math.MaxFloat64, -1e8
			r.Curves[1].Epochs = []Epoch{{Epoch: 1, Loss: 1}, {Epoch: 2, Loss: 1 + 1e-15}}
			v.PartialLoss[0], v.PartialLoss[1] = math.MaxFloat32, -1
			r.Losses.Partial = NewHistogram(v.PartialLoss, v.Poisoned)
		},
		"no poison":  func(_ *Report, v *Evidence) { clear(v.Poisoned) },
		"all poison": func(_ *Report, v *Evidence) { v.Isolated = v.Order },
		"colour": func(r *Report, v *Evidence) {
			v.Set.Channels, v.Set.Width, v.Set.Height = 3, 14, 14
			v.Set.Pixels = v.Set.Pixels[:syntheticSamples*v.Set.ImageBytes()]
		},
		"targets": func(r *Report, _ *Evidence) { r.Truth.Target = -1 },
		"parts":   func(r *Report, v *Evidence) { withParts(r, *v) },
		"trigger": func(_ *Report, v *Evidence) { v.Triggered = []byte("\x89PNG") },
	} {
		t.Run(name, func(t *testing.T) {
			r, v := synthetic()
			change(r, &v)
			page := writePage(t, r, v)
			wellFormed(t, page)
			selfContained(t, page)
			if found := notNumber.FindString(page); found != "" {
				t.Errorf("page shows %q", found)
			}
		})
	}
}

func TestWriteHTMLRefuses(t *testing.T) {
	for name, change := range map[string]func(*Report, *Evidence){
		"losses of another set":  func(_ *Report, v *Evidence) { v.PartialLoss = v.PartialLoss[1:] },
		"isolated out of range":  func(_ *Report, v *Evidence) { v.Isolated = []int{syntheticSamples} },
		"negative in order":      func(_ *Report, v *Evidence) { v.Order = []int{-1} },
		"pixels missing":         func(_ *Report, v *Evidence) { v.Set.Pixels = v.Set.Pixels[1:] },
		"two channels":           func(_ *Report, v *Evidence) { v.Set.Channels = 2 },
		"class counts":           func(r *Report, _ *Evidence) { r.Data.ClassCounts = nil },
		"target out of range":    func(r *Report, _ *Evidence) { r.Truth.Target = 10 },
		"impossible bin":         func(r *Report, _ *Evidence) { r.Losses.Base.Poisoned[3] = 1 << 20 },
		"histogram without edge": func(r *Report, _ *Evidence) { r.Losses.Base.Edges = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r, v := synthetic()
			change(r, &v)
			path := filepath.Join(t.TempDir(), "report.html")
			if err := WriteHTML(path, r, v); err == nil {
				t.Error("no error")
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was left behind: %v", err)
			}
		})
	}
}

// What the page says of M_c and of recalibration depends on what was made.
func TestWriteHTMLWithoutRepair(t *testing.T) {
	const clean, over = "M_c is the clean model", "M_c over the retained ones"
	r, v := synthetic()
	if page := writePage(t, r, v); !strings.Contains(page, clean) || !strings.Contains(page, over) {
		t.Error("page of a repaired run does not explain M_c")
	}
	r.Models = r.Models[:2]
	page := writePage(t, r, v)
	if strings.Contains(page, clean) || strings.Contains(page, over) {
		t.Error("page of a run without repair speaks of M_c")
	}
	if !strings.Contains(page, "recomputed over all samples.") {
		t.Error("page does not explain recalibration")
	}
}

// A page of photographs must not grow with their size.
func TestPicturesAreSmall(t *testing.T) {
	for _, channels := range []int{1, 3} {
		s := &dataset.Set{Width: 512, Height: 256, Channels: channels, Labels: []int32{0}}
		s.Pixels = bytes.Repeat([]byte{7}, s.ImageBytes())
		m := shownPicture(t, s)
		if got := m.Bounds().Max; got != image.Pt(pictureSide, pictureSide/2) {
			t.Errorf("%d channels: shrunk to %v", channels, got)
		}
		if r, _, _, a := m.At(9, 9).RGBA(); r>>8 != 7 || a>>8 != 255 {
			t.Errorf("%d channels: pixel %v", channels, m.At(9, 9))
		}
	}
	s := &dataset.Set{Width: 28, Height: 28, Channels: 1, Labels: []int32{0}, Pixels: make([]byte, 28*28)}
	if got := shownPicture(t, s).Bounds().Max; got != image.Pt(28, 28) {
		t.Errorf("a small picture became %v", got)
	}
}

func shownPicture(t *testing.T, s *dataset.Set) image.Image {
	t.Helper()
	source, err := Evidence{Set: s}.dataURI(0)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(source), "base64,")
	m, err := png.Decode(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRetainedAvoidsIsolated(t *testing.T) {
	_, v := synthetic()
	isolated := map[int]bool{}
	for _, i := range v.Isolated {
		isolated[i] = true
	}
	first, second := v.retained(0), v.retained(1)
	for _, i := range first {
		if isolated[i] {
			t.Errorf("sample %d is isolated", i)
		}
	}
	if len(first) != gallerySize || len(second) != gallerySize {
		t.Errorf("%d and %d samples, want %d", len(first), len(second), gallerySize)
	}
	same := true
	for k := range first {
		same = same && first[k] == second[k]
	}
	if same {
		t.Error("the seed does not matter")
	}
}

func TestRecallCurve(t *testing.T) {
	poisoned := []bool{true, false, false, true}
	got := recallCurve([]int{0, 1, 3, 2}, poisoned)
	want := [][2]float64{{0, 0}, {25, 50}, {50, 50}, {75, 100}, {100, 100}}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i, w := range want {
		if got[i].X != w[0] || got[i].Y != w[1] {
			t.Errorf("point %d: got %v, want %v", i, got[i], w)
		}
	}
	if recallCurve([]int{0}, []bool{false}) != nil {
		t.Error("a curve without poison")
	}
}

func TestByLossPutsNaNLast(t *testing.T) {
	nan := float32(math.NaN())
	got := byLoss([]float32{2, nan, 1, 1})
	for i, want := range []int{2, 3, 0, 1} {
		if got[i] != want {
			t.Fatalf("got %v", got)
		}
	}
}

// The page must not depend on anything but the report and the evidence.
func TestWriteHTMLIsDeterministic(t *testing.T) {
	r, v := synthetic()
	if a, b := writePage(t, r, v), writePage(t, r, v); !bytes.Equal([]byte(a), []byte(b)) {
		t.Error("two pages of one report differ")
	}
}
