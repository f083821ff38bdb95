package report_test

import (
	"fmt"
	"os"

	"cordon/report"
)

func ExampleTable() {
	r := &report.Report{
		Data:      report.Data{Name: "mnist", Height: 28, Width: 28, Channels: 1, Samples: 60000},
		Isolation: report.Isolation{Rate: .1, Count: 6000},
		Models: []report.Model{
			{Name: "M_s", ACC: report.Of(.9812)},
			{Name: "M_c", ACC: report.Of(.9774)},
		},
	}
	if err := report.Table(os.Stdout, r); err != nil {
		fmt.Println(err)
	}
	// Output:
	// data      mnist
	//           60,000 training samples of 28×28×1, 0 classes
	// isolated  10 % of the training samples (6,000)
	//
	// model                                       ACC        ASR      floor         RA
	// M_s                                      0.9812          –          –          –
	// M_c                                      0.9774          –          –          –
}
