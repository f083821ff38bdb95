package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// server serves requests with a function that is told how many came before.
func server(t *testing.T, serve func(w http.ResponseWriter, r *http.Request, n int)) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, int(requests.Add(1))-1)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/small.tar.gz", requests
}

func body() []byte { return gzipped(tarOf(content())) }

// good serves the file, ranges too.
func good(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "small.tar.gz", time.Time{}, bytes.NewReader(body()))
}

// cut sends the header of the whole file and half of it, then breaks off.
func cut(w http.ResponseWriter, data []byte, n int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func options(t *testing.T) Options {
	opt := DefaultOptions(filepath.Join(t.TempDir(), "out"))
	opt.Pause, opt.Stall = time.Millisecond, 5*time.Second
	return opt
}

func get(t *testing.T, opt Options, urls ...string) error {
	t.Helper()
	return Get(context.Background(), testSet(urls...), opt)
}

func partSize(t *testing.T, opt Options) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(opt.Dir+".download", "small.tar.gz.part"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestDownload(t *testing.T) {
	url, requests := server(t, func(w http.ResponseWriter, r *http.Request, n int) { good(w, r) })
	opt := options(t)
	if err := get(t, opt, url); err != nil {
		t.Fatal(err)
	}
	wantSet(t, opt.Dir)
	if requests.Load() != 1 {
		t.Errorf("%d requests", requests.Load())
	}
}

// Servers that misbehave but let the download succeed in the end.
func TestDownloadRecovers(t *testing.T) {
	half := len(body()) / 2
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request, n int){
		"cuts the connection": func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				cut(w, body(), half)
			}
			if r.Header.Get("Range") != "bytes="+strconv.Itoa(half)+"-" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			good(w, r)
		},
		"ignores the range": func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				cut(w, body(), half)
			}
			w.Write(body())
		},
		"fails at first": func(w http.ResponseWriter, r *http.Request, n int) {
			if n < 2 {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			good(w, r)
		},
		"sends a part of the rest": func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				cut(w, body(), half)
			}
			if n == 1 {
				w.Header().Set("Content-Range", "bytes "+strconv.Itoa(half)+"-"+strconv.Itoa(half+9)+"/"+strconv.Itoa(len(body())))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(body()[half : half+10])
				return
			}
			good(w, r)
		},
		"denies the range": func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				cut(w, body(), half)
			}
			if n == 1 {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			good(w, r)
		},
		"redirects": func(w http.ResponseWriter, r *http.Request, n int) {
			if r.URL.Path != "/moved" {
				http.Redirect(w, r, "/moved", http.StatusFound)
				return
			}
			good(w, r)
		},
		"does not say the length": func(w http.ResponseWriter, r *http.Request, n int) {
			w.(http.Flusher).Flush()
			w.Write(body())
		},
		"says it is compressed": func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(body())
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := server(t, serve)
			opt := options(t)
			if err := get(t, opt, url); err != nil {
				t.Fatal(err)
			}
			wantSet(t, opt.Dir)
		})
	}
}

func TestDownloadFails(t *testing.T) {
	for name, c := range map[string]struct {
		serve    func(w http.ResponseWriter, r *http.Request, n int)
		want     string
		requests int // 0: any number
	}{
		"not found":    {func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(http.StatusNotFound) }, "404 Not Found", 1},
		"server error": {func(w http.ResponseWriter, r *http.Request, n int) { w.WriteHeader(http.StatusInternalServerError) }, "after 4 tries: server answers 500", maxTries},
		"wrong bytes":  {func(w http.ResponseWriter, r *http.Request, n int) { w.Write(bytes.ToUpper(body())) }, "the SHA-256 differs", 1},
		"a web page":   {func(w http.ResponseWriter, r *http.Request, n int) { w.Write([]byte("<html>")) }, "the SHA-256 differs", 1},
		"redirect loop": {func(w http.ResponseWriter, r *http.Request, n int) {
			http.Redirect(w, r, "/small.tar.gz", http.StatusFound)
		}, "over 5 redirects", 6},
		"redirect to a file": {func(w http.ResponseWriter, r *http.Request, n int) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "redirect from http to file is refused", 1},
		"redirect to ftp": {func(w http.ResponseWriter, r *http.Request, n int) {
			http.Redirect(w, r, "ftp://127.0.0.1/x", http.StatusFound)
		}, "redirect from http to ftp is refused", 1},
		"always cut": {func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Length", "1000")
			w.Write(make([]byte, 10))
		}, "unexpected EOF", 0},
		"length too small": {func(w http.ResponseWriter, r *http.Request, n int) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Write(append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"), body()...))
				conn.Close()
			}
		}, "the SHA-256 differs", 1},
		"sends another part": {func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 0 {
				cut(w, body(), len(body())/2)
			}
			w.Header().Set("Content-Range", "bytes 0-9/"+strconv.Itoa(len(body())))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body()[:10])
		}, "server sends bytes from 0, asked for " + strconv.Itoa(len(body())/2), 2},
		"offers too much": {func(w http.ResponseWriter, r *http.Request, n int) {
			w.Header().Set("Content-Length", "2000000")
			w.Write(make([]byte, 2_000_000))
		}, "server offers 2000000 bytes", 1},
		"sends too much": {func(w http.ResponseWriter, r *http.Request, n int) {
			for range 300 {
				w.Write(make([]byte, 10_000))
			}
		}, "over 1000000 bytes", 1},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := server(t, c.serve)
			opt := options(t)
			err := get(t, opt, url)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), url) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := int(requests.Load()); c.requests != 0 && n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			if _, err := os.Stat(opt.Dir); err == nil {
				t.Error("the folder is there")
			}
			if _, err := os.Stat(filepath.Join(opt.Dir+".download", "small.tar.gz")); err == nil {
				t.Error("the archive has its name")
			}
		})
	}
}

// Downloads without sums of their own, as TSRD's, are not kept when the set is
// wrong: the next try asks for them again.
func TestDownloadWithoutSums(t *testing.T) {
	first, second := content(), content()
	delete(first, "two.bin")
	second = map[string][]byte{"two.bin": second["two.bin"]}
	for name, wrong := range map[string][]byte{"a web page": []byte("<html>not here</html>"), "another archive": zipOf(first)} {
		t.Run(name, func(t *testing.T) {
			url, _ := server(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.Write(zipOf(first)) })
			late, asked := server(t, func(w http.ResponseWriter, _ *http.Request, n int) {
				if n == 0 {
					w.Write(wrong)
				} else {
					w.Write(zipOf(second))
				}
			})
			set := testSet()
			set.Downloads = []Download{{Name: "first.zip", URLs: []string{url}}, {Name: "second.zip", URLs: []string{late}}}
			opt := options(t)
			if err := Get(context.Background(), set, opt); err == nil {
				t.Fatal("wrong bytes are taken")
			}
			if left := listing(t, filepath.Dir(opt.Dir)); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
			if err := Get(context.Background(), set, opt); err != nil || asked.Load() != 2 {
				t.Fatalf("again: %v after %d requests", err, asked.Load())
			}
			wantSet(t, opt.Dir)
		})
	}
}

// A part of another file is not kept for ever.
func TestDownloadStalePart(t *testing.T) {
	url, requests := server(t, func(w http.ResponseWriter, r *http.Request, n int) { good(w, r) })
	for name, part := range map[string][]byte{"other bytes": []byte("old"), "longer": make([]byte, len(body())+5), "whole": body()} {
		t.Run(name, func(t *testing.T) {
			requests.Store(0)
			opt := options(t)
			if err := errors.Join(os.Mkdir(opt.Dir+".download", 0o755), os.WriteFile(filepath.Join(opt.Dir+".download", "small.tar.gz.part"), part, 0o644)); err != nil {
				t.Fatal(err)
			}
			if err := get(t, opt, url); err != nil {
				t.Fatal(err)
			}
			wantSet(t, opt.Dir)
			if want := map[string]int32{"other bytes": 2, "longer": 2}[name]; requests.Load() != want {
				t.Errorf("%d requests, want %d", requests.Load(), want)
			}
		})
	}
}

// Interrupted, the part stays, and the same Get asks for the rest only.
func TestDownloadInterrupted(t *testing.T) {
	half := len(body()) / 2
	var ranges []string
	started := make(chan bool)
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request, n int) {
		ranges = append(ranges, r.Header.Get("Range"))
		if n > 0 {
			good(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body())))
		w.Write(body()[:half])
		w.(http.Flusher).Flush()
		close(started)
		<-r.Context().Done()
	})
	opt := options(t)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-started
		time.Sleep(50 * time.Millisecond) // for the bytes to arrive
		cancel()
	}()
	if err := Get(ctx, testSet(url), opt); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := partSize(t, opt); got != int64(half) {
		t.Errorf("the part has %d bytes, want %d", got, half)
	}
	if _, err := os.Stat(opt.Dir); err == nil {
		t.Error("the folder is there")
	}
	if err := get(t, opt, url); err != nil {
		t.Fatal(err)
	}
	wantSet(t, opt.Dir)
	if want := "bytes=" + strconv.Itoa(half) + "-"; len(ranges) != 2 || ranges[1] != want {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
}

// A server that falls silent is given up and asked again.
func TestDownloadStalls(t *testing.T) {
	url, requests := server(t, func(w http.ResponseWriter, r *http.Request, n int) {
		if n > 0 {
			good(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(body())))
		w.Write(body()[:10])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	opt := options(t)
	opt.Stall = 200 * time.Millisecond
	if err := get(t, opt, url); err != nil {
		t.Fatal(err)
	}
	wantSet(t, opt.Dir)
	if requests.Load() != 2 {
		t.Errorf("%d requests", requests.Load())
	}
}

func TestDownloadNextAddress(t *testing.T) {
	wrong := bytes.Repeat([]byte("wrong"), len(body())/5)
	for name, bad := range map[string]func(w http.ResponseWriter, n int){
		"refuses":           func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusForbidden) },
		"sends wrong bytes": func(w http.ResponseWriter, _ int) { w.Write(wrong) },
		"sends wrong bytes, then refuses": func(w http.ResponseWriter, n int) {
			if n == 0 {
				cut(w, wrong, len(wrong)/2)
			}
			w.WriteHeader(http.StatusForbidden)
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, asked := server(t, func(w http.ResponseWriter, _ *http.Request, n int) { bad(w, n) })
			second, _ := server(t, func(w http.ResponseWriter, r *http.Request, n int) { good(w, r) })
			opt := options(t)
			if err := get(t, opt, first, second); err != nil || asked.Load() == 0 {
				t.Fatalf("%v after %d requests to the first", err, asked.Load())
			}
			wantSet(t, opt.Dir)
		})
	}
}

// Never from https to http.
func TestDownloadDowngrade(t *testing.T) {
	plain, requests := server(t, func(w http.ResponseWriter, r *http.Request, n int) { good(w, r) })
	s := httptest.NewTLSServer(http.RedirectHandler(plain, http.StatusFound))
	defer s.Close()
	opt := options(t)
	opt.Client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	err := get(t, opt, s.URL)
	if err == nil || !strings.Contains(err.Error(), "redirect from https to http is refused") || requests.Load() != 0 {
		t.Errorf("got %v after %d requests", err, requests.Load())
	}
}

// Two processes must not write to one part.
func TestDownloadLocked(t *testing.T) {
	reached, release := make(chan bool), make(chan bool)
	url, _ := server(t, func(w http.ResponseWriter, r *http.Request, n int) {
		close(reached)
		<-release
		good(w, r)
	})
	opt := options(t)
	first := make(chan error)
	go func() { first <- Get(context.Background(), testSet(url), opt) }()
	<-reached
	if err := get(t, opt, url); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	wantSet(t, opt.Dir)
}
