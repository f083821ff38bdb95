package main

import "github.com/spf13/cobra"

// newData makes the parent of the commands on data sets.
func newData() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "get, inspect and convert image sets",
		Long: `Commands on image sets that need no engine.

` + exitCodesHelp,
		Example: "  cordon data get mnist -o mnist\n  cordon data inspect mnist\n  cordon data convert mnist -o pictures --format folder",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDataGet(), newDataInspect(), newDataConvert())
	return cmd
}
