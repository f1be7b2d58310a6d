package dynamo

import (
	"fmt"

	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// The API of Global Tables of 2017, which DynamoDB refuses to use for anything
// new, in these words. A table's replicas are in DescribeTable.

func (c *call) createGlobalTable() error {
	if _, err := c.readGlobalName(); err != nil {
		return err
	}
	list, err := readStructs(c.root, "ReplicationGroup")
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		return errValidation(invalidParameter + "Global table must have atleast one replica")
	}
	return errOfOld()
}

func errOfOld() error {
	return errValidation(invalidParameter + "DynamoDB global tables version 2017.11.29 is not supported. " +
		"We recommend using DynamoDB global tables version 2019.11.21, instead of version 2017.11.29 (Legacy).")
}

func errNoGlobalTable(format, name string) error {
	return &table.Error{Code: codeNoGlobalTable, Message: fmt.Sprintf(format, name)}
}

const noGlobalTable = "Global table with name: '%s' does not exist."

func (c *call) updateGlobalTable() error {
	name, err := c.readGlobalName()
	if err != nil {
		return err
	}
	list, err := readStructs(c.root, "ReplicaUpdates")
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		return errValidation("One or more parameter values were invalid")
	}
	for _, o := range list {
		if member(o, "Create") != nil {
			return errOfOld()
		}
	}
	return errNoGlobalTable(noGlobalTable, name)
}

func (c *call) describeGlobalTable() error {
	name, err := c.readGlobalName()
	if err != nil {
		return err
	}
	return errNoGlobalTable("Global table not found: "+noGlobalTable, name)
}

// globalTableSettings is DescribeGlobalTableSettings and UpdateGlobalTableSettings.
func (c *call) globalTableSettings() error {
	name, err := c.readGlobalName()
	if err != nil {
		return err
	}
	return errNoGlobalTable(noGlobalTable, name)
}

func (c *call) listGlobalTables() error {
	return c.answer(map[string]any{"GlobalTables": []string{}})
}

func (c *call) readGlobalName() (string, error) {
	var v violations
	name, there, err := readString(c.root, "GlobalTableName")
	if err != nil {
		return "", err
	}
	v.name(name, there, "globalTableName")
	return name, v.err()
}

// name notes what is wrong with a name that is a table's and no ARN.
func (v *violations) name(s string, there bool, at string) {
	switch {
	case !there:
		v.add(nil, at, notNull)
	case len(s) < 3:
		v.add(s, at, "Member must have length greater than or equal to 3")
	case len(s) > maxTableName:
		v.add(s, at, fmt.Sprintf("Member must have length less than or equal to %d", maxTableName))
	case !isName(s):
		v.add(s, at, namePattern)
	}
}

// describeBackups says that there are none, which is what tools that manage tables
// ask first.
func (c *call) describeBackups() error {
	if _, err := c.findNamed(); err != nil {
		return err
	}
	return c.answer(map[string]any{"ContinuousBackupsDescription": map[string]any{
		"ContinuousBackupsStatus":        "DISABLED",
		"PointInTimeRecoveryDescription": map[string]string{"PointInTimeRecoveryStatus": "DISABLED"},
	}})
}

// findNamed finds the table that TableName names.
func (c *call) findNamed() (*control.Table, error) {
	name, err := c.readTableName()
	if err != nil {
		return nil, err
	}
	return c.catalogTable(name)
}
