// Command antipode runs and operates the regions of a multi-region application.
package main

import (
	"os"

	"github.com/antipode-io/antipode/internal/cli"
)

func main() { os.Exit(cli.Main()) }
