package dataset

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cordon/internal/seed"
)

// The set of TestStoreBoundsMemory: 384 MiB of pixels, read by a process that
// may have 96 MiB of memory of its own.
const (
	memorySide   = 512
	memoryImages = 512
	memoryPixels = memoryImages * memorySide * memorySide * 3
	memoryLimit  = 96 << 20
	memoryChild  = "CORDON_MEMORY_CHILD" // set in that process: "memory" or the store
)

// TestStoreBoundsMemory reads a set four times as large as the memory that the
// process may take (RLIMIT_DATA: what is not backed by a file).
func TestStoreBoundsMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 400 MB")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc here")
	}
	dir, store := manyImages(t), t.TempDir()
	for _, round := range []string{"written", "found again"} {
		out, err := child(t, dir, store)
		if err != nil {
			t.Fatalf("store %s: %v\n%s", round, err, out)
		}
		t.Logf("store %s: %s", round, out)
	}
	// The other way round, without the limit: Go does not survive it in good order.
	if out, err := child(t, dir, "memory"); err == nil || !strings.Contains(out, "anonymous memory are over") {
		t.Errorf("without a store it takes no more, so the test shows nothing: %v\n%s", err, out)
	}
}

// manyImages makes a folder of images that share few files.
func manyImages(t *testing.T) string {
	files := map[string][]byte{}
	for i := range 4 {
		files[fmt.Sprintf("c%d/0.ppm", i)] = ppmOf(memorySide, memorySide, fmt.Sprintf("P6 %d %d 255 ", memorySide, memorySide))
	}
	dir := tree(t, files)
	for i := 4; i < memoryImages; i++ {
		folder := filepath.Join(dir, fmt.Sprintf("c%d", i%4))
		if err := os.Link(filepath.Join(folder, "0.ppm"), filepath.Join(folder, fmt.Sprintf("%d.ppm", i))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func child(t *testing.T, dir, where string) (string, error) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestMemoryChild$", dir)
	cmd.Env = append(os.Environ(), memoryChild+"="+where)
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// TestMemoryChild reads a set through as training does, and says how much
// memory that took. It runs in a process of its own.
func TestMemoryChild(t *testing.T) {
	where := os.Getenv(memoryChild)
	if where == "" {
		t.Skip("runs in a process of TestStoreBoundsMemory")
	}
	opt := Options{Size: memorySide}
	if where != "memory" {
		opt.Store = where
		limitMemory(t)
	}
	stop, peak := make(chan struct{}), make(chan [3]int64)
	go watch(stop, peak)
	began := time.Now()
	set := openStored(t, os.Args[len(os.Args)-1], opt)
	opened := time.Since(began)
	if len(set.Pixels) != memoryPixels {
		t.Fatalf("%d bytes of pixels", len(set.Pixels))
	}
	set.Fingerprint()
	set.Stats()
	batch := make([]byte, 32*set.ImageBytes())
	order := seed.Stream(0, "test/memory").Perm(set.Len())
	for at, i := range order {
		copy(batch[at%32*set.ImageBytes():], set.Image(i))
	}
	close(stop)
	most := <-peak
	fmt.Printf("opened in %.1f s; at most %d MiB anonymous, %d MiB of files, %d MiB data\n", opened.Seconds(), most[0]>>20, most[1]>>20, most[2]>>20)
	if most[0] > memoryLimit {
		t.Errorf("%d bytes of anonymous memory are over %d", most[0], memoryLimit)
	}
}

// limitMemory lets the process take memoryLimit more than it has.
func limitMemory(t *testing.T) {
	debug.SetMemoryLimit(memoryLimit / 2)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = uint64(status("VmData") + memoryLimit)
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		t.Fatal(err)
	}
}

// watch notes the highest use of memory until stop is closed.
func watch(stop <-chan struct{}, peak chan<- [3]int64) {
	var most [3]int64
	for {
		for k, field := range []string{"RssAnon", "RssFile", "VmData"} {
			most[k] = max(most[k], status(field))
		}
		select {
		case <-stop:
			peak <- most
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// status returns a field of /proc/self/status in bytes.
func status(field string) int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), field+":")
	value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kilobytes, _ := strconv.ParseInt(value, 10, 64)
	return kilobytes << 10
}
