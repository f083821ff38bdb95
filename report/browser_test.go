package report

import (
	"context"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const chromium = "/usr/bin/chromium"

// browse runs Chromium on a page, without network, and returns its output.
func browse(t *testing.T, page string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir=" + t.TempDir()}, args...)
	out, err := exec.CommandContext(ctx, chromium, append(args, "file://"+page)...).Output()
	if err != nil {
		t.Fatalf("%s: %v", chromium, err)
	}
	return string(out)
}

// The page in a real browser: it parses as meant and is not blank.
func TestBrowser(t *testing.T) {
	if _, err := os.Stat(chromium); err != nil {
		t.Skipf("no browser: %v", err)
	}
	r, v := synthetic()
	dir := t.TempDir()
	page := filepath.Join(dir, "report.html")
	if err := WriteHTML(page, r, v); err != nil {
		t.Fatal(err)
	}

	dom := browse(t, page, "--dump-dom")
	for _, id := range []string{"models", "found", "pictures", "losses", "ranking", "training", "time", "next", "limits", "settings"} {
		if !strings.Contains(dom, `<section id="`+id+`">`) {
			t.Errorf("the browser's page lacks section %s", id)
		}
	}
	if n := strings.Count(dom, "<svg"); n != 8 {
		t.Errorf("%d charts, want 8", n)
	}

	for _, width := range []string{"1200", "500"} {
		shot := filepath.Join(dir, width+".png")
		browse(t, page, "--screenshot="+shot, "--hide-scrollbars", "--window-size="+width+",3000")
		if n := coloursOf(t, shot); n < 100 {
			t.Errorf("%s pixels wide: %d colours, the page looks blank", width, n)
		}
	}
}

// coloursOf counts the different colours of an image.
func coloursOf(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	type colour struct{ r, g, b uint32 }
	seen := map[colour]bool{}
	for y := m.Bounds().Min.Y; y < m.Bounds().Max.Y; y++ {
		for x := m.Bounds().Min.X; x < m.Bounds().Max.X; x++ {
			r, g, b, _ := m.At(x, y).RGBA()
			seen[colour{r, g, b}] = true
		}
	}
	return len(seen)
}
