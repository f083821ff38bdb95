package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cordon/internal/event"
	"cordon/internal/fetch"
)

// getting is one call of cordon data get.
type getting struct {
	out, from string
	list      bool
}

func newDataGet() *cobra.Command {
	g := &getting{}
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "download a well-known image set, or take it from a local archive",
		Long: `Puts a well-known image set into a folder: from its official address, or with
--from out of an archive (tar, tar.gz, tar.xz, zip) or a folder that is already
here, without a network. What comes is compared with known SHA-256 sums; the
folder appears whole or not at all.

An interrupted download continues with the same command.

` + exitCodesHelp,
		Example: "  cordon data get cifar10\n  cordon data get tsrd --from tsrd.tar.xz -o tsrd",
		Args: func(cmd *cobra.Command, args []string) error {
			if g.list {
				return usageArgs(cobra.NoArgs)(cmd, args)
			}
			return usageArgs(cobra.ExactArgs(1))(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if g.list {
				return printSets(cmd.OutOrStdout())
			}
			return g.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&g.out, "out", "o", "", "folder to make (default: one of its name in the user's cache)")
	f.StringVar(&g.from, "from", "", "take it from this `file` or folder instead of the network")
	f.BoolVar(&g.list, "list", false, "list the sets and end")
	return cmd
}

func printSets(w io.Writer) error {
	for _, set := range fetch.Sets() {
		if _, err := fmt.Fprintf(w, "%-9s %s\n%-9s %s\n", set.Name, set.Summary, "", set.Page); err != nil {
			return err
		}
	}
	return nil
}

func findSet(name string) (fetch.Set, error) {
	var names []string
	for _, set := range fetch.Sets() {
		if set.Name == name {
			return set, nil
		}
		names = append(names, set.Name)
	}
	return fetch.Set{}, usagef("unknown set %q (known: %s)", name, strings.Join(names, ", "))
}

func (g *getting) run(cmd *cobra.Command, name string) error {
	set, err := findSet(name)
	if err != nil {
		return err
	}
	dir := g.out
	if dir == "" {
		if dir, err = fetch.DefaultDir(name); err != nil {
			return err
		}
	}
	dir = filepath.Clean(dir)
	if err := g.get(cmd, set, dir); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), oneLines([]string{
		fmt.Sprintf("%-9s %s", set.Name, dir),
		"next      cordon data inspect " + dir,
	}))
	return err
}

// get makes the folder, or checks the one that is there.
func (g *getting) get(cmd *cobra.Command, set fetch.Set, dir string) error {
	ctx := cmd.Context()
	opt := fetch.DefaultOptions(dir)
	opt.From, opt.Events = g.from, event.NewTerminal(cmd.ErrOrStderr())
	if exists(dir) {
		if err := set.Check(ctx, dir); err != nil {
			return &hinted{fmt.Errorf("%s is there but is not %s: %w", dir, set.Name, err), "nothing is overwritten: remove it or choose another folder with -o"}
		}
		note(opt.Events, "%s is there already, and its sums are right", dir)
		return nil
	}
	return getFailed(set, opt, fetch.Get(ctx, set, opt))
}

// getFailed adds what to do about an error.
func getFailed(set fetch.Set, opt fetch.Options, err error) error {
	switch {
	case err == nil:
		return nil
	case opt.From != "":
		return err
	case errors.Is(err, context.Canceled):
		return &hinted{err, "the same command continues the download"}
	case errors.Is(err, fs.ErrPermission):
		return err
	}
	return &hinted{err, fmt.Sprintf("the same command tries again; without a network: cordon data get %s --from FILE, with an archive from %s", set.Name, set.Page)}
}
