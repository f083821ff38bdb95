package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"cordon/dataset"
	"cordon/internal/recipe"
	"cordon/internal/seed"
	"cordon/internal/torch"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cordon": main, "mkdata": mkdata})
}

// TestScripts runs the scripts that need no engine; the engine is out of reach.
func TestScripts(t *testing.T) {
	runScripts(t, "script", "/no/such/library.so")
}

// TestEngineScripts runs the scripts that train tiny networks.
func TestEngineScripts(t *testing.T) {
	needEngine(t)
	runScripts(t, "script-engine", library(t))
}

func runScripts(t *testing.T, dir, engine string) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", dir),
		Setup: func(env *testscript.Env) error {
			env.Setenv("CORDON_ENGINE", engine)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "waitfor": waitFor, "truncate": truncate,
		},
	})
}

// library is the engine that the tests use: CORDON_ENGINE, or what `make
// engine` built.
func library(t *testing.T) string {
	if named := os.Getenv("CORDON_ENGINE"); named != "" {
		return named
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", torch.LibraryName))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// needEngine skips a test without the engine, unless CORDON_REQUIRE_ENGINE.
func needEngine(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(library(t)); err == nil {
		return
	}
	if os.Getenv("CORDON_REQUIRE_ENGINE") != "" {
		t.Fatalf("no engine at %s", library(t))
	}
	t.Skipf("no engine at %s: run make engine", library(t))
}

// exits runs a command and checks its exit code and, unless that is 0, that it
// says why in one line: "exits CODE COMMAND ARG…".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	if want == exitDone {
		return
	}
	said := 0
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		if strings.HasPrefix(line, "cordon: ") {
			said++
		}
		if strings.Contains(line, "goroutine ") || strings.Contains(line, "panic") {
			ts.Fatalf("the program crashed")
		}
	}
	if said != 1 {
		ts.Fatalf("%d error lines, want 1", said)
	}
}

// waitFor waits until a file exists.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear within a minute", args[0])
}

// truncate cuts the last bytes off a file: "truncate FILE BYTES".
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	cut, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()-cut))
}

// mkdata is a command of the test scripts: it makes a small data set whose
// classes are bars in different rows.
func mkdata() {
	format := flag.String("format", "idx", "idx, cifar10 or folder")
	train := flag.Int("train", 80, "training images")
	test := flag.Int("test", 20, "test images")
	side := flag.Int("side", 16, "pixels")
	flag.Parse()
	a := bars(*format, *train, *side, "train")
	b := bars(*format, *test, *side, "test")
	if _, err := dataset.Write(context.Background(), flag.Arg(0), a, b, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// bars makes images of noise with a bright bar whose row is the class.
func bars(format string, n, side int, split string) *dataset.Set {
	s := &dataset.Set{Format: format, Height: side, Width: side, Channels: 3}
	classes := 4
	switch format {
	case "idx":
		s.Channels = 1
	case "cifar10":
		s.Height, s.Width, classes = 32, 32, 10
	}
	for c := range classes {
		s.Classes = append(s.Classes, strconv.Itoa(c))
	}
	r := seed.Stream(0, "test/bars/"+split)
	s.Pixels = make([]byte, n*s.ImageBytes())
	for i := range s.Pixels {
		s.Pixels[i] = byte(r.IntN(64))
	}
	row := s.Height / classes
	for i := range n {
		label := i % classes
		s.Labels = append(s.Labels, int32(label))
		image := s.Image(i)
		for k := label * row * s.Width * s.Channels; k < (label+1)*row*s.Width*s.Channels; k++ {
			image[k] += 160
		}
	}
	return s
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("x: %w", torch.ErrNoEngine), 1},
		{fmt.Errorf("x: %w", usagef("y")), 2},
		{fmt.Errorf("x: %w", &recipe.Error{Key: "a", Reason: "b"}), 2},
		{&hinted{fmt.Errorf("x: %w", context.Canceled), "y"}, 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exit code of %v is %d, want %d", c.err, got, c.want)
		}
	}
}

func TestTellOneLine(t *testing.T) {
	var b strings.Builder
	tell(&b, &hinted{errors.Join(errors.New("evil\x1b[31m \u202ename"), fs.ErrExist), "do this"})
	if want := "cordon: evil�[31m �name; file already exists\nhint: do this\n"; b.String() != want {
		t.Errorf("told %q, want %q", b.String(), want)
	}
}

// TestCleanIsBlind: clean has no flag for the truth, and none of its files can
// reach it.
func TestCleanIsBlind(t *testing.T) {
	if newClean().Flags().Lookup("truth") != nil {
		t.Error("clean has a flag for the truth")
	}
	for _, file := range []string{"cmd_clean.go", "flags.go", "data.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if path := strings.Trim(i.Path.Value, `"`); slices.Contains([]string{"cordon/attack", "cordon/internal/evaluation", "cordon/internal/catalog"}, path) {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}

func TestHelpStatesExitCodesAndExample(t *testing.T) {
	checked := 0
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		checked++
		if !strings.Contains(cmd.Long, exitCodesHelp) || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: the help lacks the exit codes or an example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	for _, cmd := range newRoot(nil, nil).Commands() {
		check(cmd)
	}
	if checked < 9 {
		t.Errorf("looked at %d commands", checked)
	}
}

func TestWithin(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	link := filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(data, 0o755), os.Symlink(data, link)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		data:                               true,
		filepath.Join(data, "new", "file"): true,
		filepath.Join(link, "new"):         true,
		data + ".truth.json":               false,
		filepath.Join(dir, "..other"):      false,
		dir:                                false,
		"":                                 false,
	} {
		if got := within(data, path); got != want {
			t.Errorf("within(%s, %s) = %v", data, path, got)
		}
	}
}

func TestJudgeProducts(t *testing.T) {
	if c := judgeProducts(2.5, 60); c.OK || !strings.Contains(c.Detail, "slow reference BLAS") || c.Hint == "" {
		t.Errorf("a slow BLAS passes: %+v", c)
	}
	if c := judgeProducts(40, 60); !c.OK || c.Hint != "" {
		t.Errorf("a fast BLAS fails: %+v", c)
	}
}
