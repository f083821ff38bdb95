package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cordon/internal/realdata"
)

// TestDataGetInterrupted runs the real program against a server that stands in
// for MNIST's, as its proxy: Ctrl-C in the middle keeps the part, and the same
// command asks for the rest only.
func TestDataGetInterrupted(t *testing.T) {
	mnist := realdata.Dir(t, "mnist")
	const slow, half = "train-images-idx3-ubyte.gz", 5_000_000
	reached := make(chan bool, 1)
	var ranges []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Base(r.URL.Path)
		if name == slow {
			ranges = append(ranges, r.Header.Get("Range"))
		}
		if name != slow || len(ranges) > 1 {
			http.ServeFile(w, r, filepath.Join(mnist, name))
			return
		}
		data, _ := os.ReadFile(filepath.Join(mnist, name))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:half])
		w.(http.Flusher).Flush()
		reached <- true
		<-r.Context().Done()
	}))
	defer server.Close()
	out := filepath.Join(t.TempDir(), "out")
	first, stderr := startGet(t, server.URL, out)
	<-reached
	waitForSize(t, filepath.Join(out+".download", slow+".part"), half)
	first.Process.Signal(os.Interrupt)
	first.Wait()
	if code := first.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(stderr.String(), "the same command continues") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Fatal("the folder is there")
	}
	second, stderr := startGet(t, server.URL, out)
	if err := second.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if want := fmt.Sprintf("bytes=%d-", half); len(ranges) != 2 || ranges[1] != want {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
	if left, _ := filepath.Glob(out + "*"); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestDataGetFrom takes a real set from a folder, as without a network.
func TestDataGetFrom(t *testing.T) {
	mnist := realdata.Dir(t, "mnist")
	out := filepath.Join(t.TempDir(), "out")
	said, err := exec.Command("cordon", "data", "get", "mnist", "--from", mnist, "-o", out).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if files, _ := filepath.Glob(filepath.Join(out, "*.gz")); len(files) != 4 {
		t.Errorf("%d files: %s", len(files), said)
	}
}

// startGet starts cordon with a proxy.
func startGet(t *testing.T, proxy, out string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("cordon", "data", "get", "mnist", "-o", out)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HTTP_PROXY="+proxy, "NO_PROXY=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr
}

func waitForSize(t *testing.T, path string, size int64) {
	t.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() >= size {
			return
		}
	}
	t.Fatalf("%s did not reach %d bytes within a minute", path, size)
}
