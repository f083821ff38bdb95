package dataset_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
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

	"cordon/attack"
	"cordon/dataset"
	"cordon/internal/seed"
)

// The set of TestStoreBoundsMemory: 384 MiB of pixels, used by a process that
// may have 96 MiB of memory of its own.
const (
	memorySide   = 512
	memoryImages = 512
	memoryPixels = memoryImages * memorySide * memorySide * 3
	memoryLimit  = 96 << 20
	memoryTask   = "CORDON_MEMORY_TASK"  // set in that process
	memoryStore  = "CORDON_MEMORY_STORE" // there too; empty for no store and no limit
)

// memoryTasks are what that process does with the set before it reads it
// through. The sets they make have at least as many pixels.
var memoryTasks = map[string]func(*dataset.Set) (*dataset.Set, error){
	"read": func(set *dataset.Set) (*dataset.Set, error) { return set, nil },
	"poison": func(set *dataset.Set) (*dataset.Set, error) {
		build := func(attack.Spec) (attack.Attack, error) { return attack.DefaultBadNets(), nil }
		truth, err := attack.Plan(context.Background(), set, 0, []attack.Part{attack.PartOf(attack.DefaultBadNets(), 3, .5)})
		if err != nil {
			return nil, err
		}
		return truth.Apply(context.Background(), set, build)
	},
	"enlarge and sample": func(set *dataset.Set) (*dataset.Set, error) {
		large, err := set.Enlarge([]dataset.Variant{dataset.Original, dataset.HFlip, dataset.VFlip}, 0)
		if err != nil {
			return nil, err
		}
		return large.Subset(large.Sample(memoryImages, 0)), nil
	},
}

// TestStoreBoundsMemory reads, poisons, enlarges and samples a set four times as
// large as the memory that the process may take (RLIMIT_DATA: what is not backed
// by a file).
func TestStoreBoundsMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc here")
	}
	dir, store := manyImages(t), t.TempDir()
	for _, c := range []struct{ dir, task string }{
		{dir, "read"}, {dir, "read"}, {dir, "poison"}, {dir, "enlarge and sample"}, {manyInOneFile(t), "poison"},
	} {
		out, err := child(t, c.dir, c.task, store)
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.task, err, out)
		}
		t.Logf("%s: %s", c.task, out)
	}
	// The other way round, without the limit: Go does not survive it in good order.
	if out, err := child(t, dir, "read", ""); err == nil || !strings.Contains(out, "anonymous memory are over") {
		t.Errorf("without a store it takes no more, so the test shows nothing: %v\n%s", err, out)
	}
}

// manyImages makes a folder of images that share few files.
func manyImages(t *testing.T) string {
	dir := t.TempDir()
	image := fmt.Appendf(nil, "P6 %d %d 255 ", memorySide, memorySide)
	for k := range memorySide * memorySide * 3 {
		image = append(image, byte(k))
	}
	for i := range memoryImages {
		folder := filepath.Join(dir, fmt.Sprintf("c%d", i%4))
		first, name := filepath.Join(folder, "0.ppm"), filepath.Join(folder, fmt.Sprintf("%d.ppm", i/4))
		var err error
		if i < 4 {
			err = os.Mkdir(folder, 0o755)
		}
		switch {
		case err != nil:
		case i < 4:
			err = os.WriteFile(first, image, 0o644)
		default:
			err = os.Link(first, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// manyInOneFile makes an IDX set with as many pixels, all black.
func manyInOneFile(t *testing.T) string {
	dir := t.TempDir()
	images := 3 * memoryImages // grey
	var header, labels []byte
	for _, v := range []uint32{0x803, uint32(images), memorySide, memorySide} {
		header = binary.BigEndian.AppendUint32(header, v)
	}
	for _, v := range []uint32{0x801, uint32(images)} {
		labels = binary.BigEndian.AppendUint32(labels, v)
	}
	for i := range images {
		labels = append(labels, byte(i%4))
	}
	pixels := filepath.Join(dir, "train-images-idx3-ubyte")
	err := errors.Join(
		os.WriteFile(pixels, header, 0o644),
		os.Truncate(pixels, int64(len(header)+memoryPixels)),
		os.WriteFile(filepath.Join(dir, "train-labels-idx1-ubyte"), labels, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func child(t *testing.T, dir, task, store string) (string, error) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestMemoryChild$", dir)
	cmd.Env = append(os.Environ(), memoryTask+"="+task, memoryStore+"="+store)
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// TestMemoryChild does a task with a set, reads the result through as training
// does, and says how much memory that took. It runs in a process of its own.
func TestMemoryChild(t *testing.T) {
	task, store := memoryTasks[os.Getenv(memoryTask)], os.Getenv(memoryStore)
	if task == nil {
		t.Skip("runs in a process of TestStoreBoundsMemory")
	}
	if store != "" {
		limitMemory(t)
	}
	stop, peak := make(chan struct{}), make(chan [3]int64)
	go watch(stop, peak)
	began := time.Now()
	source, err := dataset.Open(t.Context(), os.Args[len(os.Args)-1], dataset.Train, dataset.Options{Size: memorySide, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	opened := time.Since(began)
	set, err := task(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := set.Len() * set.ImageBytes(); n < memoryPixels {
		t.Fatalf("%d bytes of pixels", n)
	}
	if _, err := set.Fingerprint(t.Context()); err != nil {
		t.Fatal(err)
	}
	set.Stats()
	batch := make([]byte, 32*set.ImageBytes())
	for at, i := range seed.Stream(0, "test/memory").Perm(set.Len()) {
		copy(batch[at%32*set.ImageBytes():], set.Image(i))
	}
	close(stop)
	most := <-peak
	fmt.Printf("opened in %.1f s, all in %.1f s; at most %d MiB anonymous, %d MiB of files, %d MiB data\n",
		opened.Seconds(), time.Since(began).Seconds(), most[0]>>20, most[1]>>20, most[2]>>20)
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
