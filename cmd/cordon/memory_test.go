package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The set of TestPoisonBoundsMemory: 192 MiB of pixels, and the memory of its own
// that cordon may take to poison them.
const (
	memorySide   = 512
	memoryImages = 256
	memoryLimit  = memoryImages * memorySide * memorySide * 3 / 4
)

// TestPoisonBoundsMemory makes a poisoned copy of a set four times as large as the
// memory that the command may take (RssAnon: what is not backed by a file), and
// compares it with the copy made without a store.
func TestPoisonBoundsMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc here")
	}
	data, dir := manyImages(t), t.TempDir()
	stored, held := filepath.Join(dir, "stored"), filepath.Join(dir, "held")
	if most := poisonMemory(t, data, stored, "--store", filepath.Join(dir, "store")); most > memoryLimit {
		t.Errorf("with a store it takes %d MiB", most>>20)
	}
	if most := poisonMemory(t, data, held); most <= memoryLimit {
		t.Errorf("without a store it takes %d MiB, so the test shows nothing", most>>20)
	}
	if out, err := exec.Command("diff", "-r", stored, held).CombinedOutput(); err != nil {
		t.Errorf("the copies differ: %v\n%.500s", err, out)
	}
}

// manyImages makes a folder of two classes whose images share two files.
func manyImages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image := fmt.Appendf(nil, "P6 %d %d 255 ", memorySide, memorySide)
	image = append(image, bytes.Repeat([]byte("cordon"), memorySide*memorySide/2)...)
	for i := range memoryImages {
		class := filepath.Join(dir, "train", strconv.Itoa(i%2))
		first, err := filepath.Join(class, "0.ppm"), error(nil)
		if i < 2 {
			err = os.MkdirAll(class, 0o755)
		}
		switch {
		case err != nil:
		case i < 2:
			err = os.WriteFile(first, image, 0o644)
		default:
			err = os.Link(first, filepath.Join(class, fmt.Sprintf("%d.ppm", i/2)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// poisonMemory runs cordon poison and returns the most memory of its own that it
// took, in bytes.
func poisonMemory(t *testing.T, data, out string, options ...string) int64 {
	t.Helper()
	args := append([]string{"poison", data, "-o", out, "--target", "1", "--size", strconv.Itoa(memorySide)}, options...)
	cmd := exec.Command("cordon", args...)
	cmd.Env = append(cmd.Environ(), "GOMAXPROCS=2") // every core works on an image of its own
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	for most := int64(0); ; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("cordon %s: %v\n%s", strings.Join(args, " "), err, said.String())
			}
			t.Logf("%v: at most %d MiB in %.1f s", options, most>>20, time.Since(began).Seconds())
			return most
		case <-time.After(5 * time.Millisecond):
			most = max(most, ownMemory(cmd.Process.Pid))
		}
	}
}

// ownMemory returns the RssAnon of a process in bytes, 0 once it has ended.
func ownMemory(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kilobytes, _ := strconv.ParseInt(value, 10, 64)
	return kilobytes << 10
}
