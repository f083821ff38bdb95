package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"cordon"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Long:    "Prints the version of cordon and of Go it was built with.\n\n" + exitCodesHelp,
		Example: "  cordon version",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("cordon %s (%s, %s/%s)", cordon.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
