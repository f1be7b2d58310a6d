package table

import "github.com/antipode-io/antipode/internal/control"

// TableRef is a table of the catalog.
type TableRef = control.Table
