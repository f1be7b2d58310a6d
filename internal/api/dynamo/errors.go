package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/hlc"
)

// Codes of the API that this package says by itself.
const (
	codeValidation      = "ValidationException"
	codeSerialization   = "SerializationException"
	codeNotFound        = "ResourceNotFoundException"
	codeInUse           = "ResourceInUseException"
	codeNoGlobalTable   = "GlobalTableNotFoundException"
	codeConditionFailed = "ConditionalCheckFailedException"
	codeInternal        = "InternalServerError"
	codeThrottling      = "ThrottlingException"
	codeAccessDenied    = "AccessDeniedException"
	codeUnknownOp       = "UnknownOperationException"
	// codeOutcomeUnknown is our own: DynamoDB says InternalServerError, which
	// SDKs repeat by themselves, and a repeated ADD would count twice.
	codeOutcomeUnknown = "OutcomeUnknownException"
	codeTooLarge       = "RequestEntityTooLargeException"
)

var (
	// errCatalog wraps why the regions could not agree on a change in time.
	errCatalog  = errors.New("the catalog can't be changed now; try again, or see `antipode status`")
	errPanic    = errors.New("a request met a fault of the program")
	errTooLarge = &table.Error{Code: codeTooLarge, Message: fmt.Sprintf("Request body is larger than %d bytes", maxBody)}
)

// Prefixes of __type. Which code has which is part of the protocol.
const (
	nsDynamo   = "com.amazonaws.dynamodb.v20120810#"
	nsService  = "com.amazon.coral.service#"
	nsValidate = "com.amazon.coral.validate#"
)

// wire is an error as a client gets it.
type wire struct {
	namespace, code string
	status          int
	message         string
	item            []byte
	expected        bool // a state of the regions that has its own log lines
}

// mapping is one line of the table from our errors to the API's.
type mapping struct {
	err    error
	code   string
	status int
	// message replaces the error's own where that says what no client should
	// read, or where clients know another.
	message  string
	expected bool
}

// mappings is the one table from our errors to what clients get. SDKs retry
// status 5xx and ThrottlingException, so these are for what another attempt may
// not meet; all else is final.
func mappings() []mapping {
	return []mapping{
		{access.ErrMissing, "MissingAuthenticationTokenException", http.StatusBadRequest, "", true},
		{access.ErrIncomplete, "IncompleteSignatureException", http.StatusBadRequest, "", true},
		{access.ErrUnknownKey, "UnrecognizedClientException", http.StatusBadRequest, "", true},
		{access.ErrSignature, "InvalidSignatureException", http.StatusBadRequest, "", true},

		{table.ErrNoTable, codeNotFound, http.StatusBadRequest, "Requested resource not found", true},
		{table.ErrNotHome, codeNotFound, http.StatusBadRequest, "", true},
		{table.ErrUnavailable, codeInternal, http.StatusInternalServerError, "", true},
		{table.ErrOutcomeUnknown, codeOutcomeUnknown, http.StatusConflict, "", true},
		{table.ErrThrottled, codeThrottling, http.StatusBadRequest, "", true},
		{table.ErrClosed, codeInternal, http.StatusInternalServerError, "", true},

		{control.ErrTableExists, codeInUse, http.StatusBadRequest, "", true},
		{control.ErrDropped, codeInUse, http.StatusBadRequest, "", true},
		{control.ErrNoTable, codeNotFound, http.StatusBadRequest, "Requested resource not found", true},
		{control.ErrProtected, codeValidation, http.StatusBadRequest, "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.", true},
		{control.ErrTableBusy, codeInUse, http.StatusBadRequest, "The resource which you are attempting to change is in use.", true},
		{control.ErrDropped, codeNotFound, http.StatusBadRequest, "", true},
		{control.ErrInvalid, codeValidation, http.StatusBadRequest, "", true},
		{errCatalog, codeInternal, http.StatusInternalServerError, "", true},

		{hlc.ErrAhead, codeInternal, http.StatusInternalServerError, "", true},
		{hlc.ErrFuture, codeInternal, http.StatusInternalServerError, "", true},
		{hlc.ErrClosed, codeInternal, http.StatusInternalServerError, "", true},

		{engine.ErrDiskFull, codeInternal, http.StatusInternalServerError, "The disk of this region is full; nothing was written; free some space", false},
		{engine.ErrCorrupt, codeInternal, http.StatusInternalServerError, "", false},
		{engine.ErrNotFound, codeInternal, http.StatusInternalServerError, "", false},
		{engine.ErrClosed, codeInternal, http.StatusInternalServerError, "The region is shutting down; try again", true},

		{context.DeadlineExceeded, codeInternal, http.StatusInternalServerError, "The request could not be answered in time; try again", true},
		{context.Canceled, codeInternal, http.StatusInternalServerError, "The region is shutting down; try again", true},
		{errPanic, codeInternal, http.StatusInternalServerError, "The request processing has failed because of an unknown error, exception or failure.", false},
	}
}

// wireOf finds what a client gets for an error.
func wireOf(err error) wire {
	if api, ok := errors.AsType[*table.Error](err); ok {
		w := wire{namespace: namespace(api.Code), code: api.Code, status: http.StatusBadRequest, message: api.Message, item: api.Item}
		if api.Code == codeTooLarge {
			w.status = http.StatusRequestEntityTooLarge
		}
		return w
	}
	if data, ok := errors.AsType[*attr.Error](err); ok {
		return wire{namespace: namespace(data.Code), code: data.Code, status: http.StatusBadRequest, message: data.Message}
	}
	for _, m := range mappings() {
		if !errors.Is(err, m.err) {
			continue
		}
		w := wire{namespace: namespace(m.code), code: m.code, status: m.status, message: m.message, expected: m.expected}
		var signed *access.Error
		switch {
		case errors.As(err, &signed):
			w.message = signed.Message
		case w.message == "":
			w.message = err.Error()
		}
		return w
	}
	return wire{namespace: nsDynamo, code: codeInternal, status: http.StatusInternalServerError, message: err.Error()}
}

func namespace(code string) string {
	switch code {
	case codeValidation:
		return nsValidate
	case codeSerialization, codeUnknownOp, codeAccessDenied, codeTooLarge, codeThrottling, "MissingAuthenticationTokenException",
		"IncompleteSignatureException", "UnrecognizedClientException", "InvalidSignatureException":
		return nsService
	default:
		return nsDynamo
	}
}

func (w *wire) append(dst []byte) []byte {
	dst = append(dst, `{"__type":"`...)
	dst = append(dst, w.namespace...)
	dst = append(dst, w.code...)
	dst = append(dst, '"')
	if w.message != "" {
		dst = append(dst, `,"message":`...)
		dst = appendText(dst, w.message)
	}
	if len(w.item) > 0 {
		dst = append(dst, `,"Item":`...)
		dst = append(dst, w.item...)
	}
	return append(dst, '}')
}

// appendText appends any text as a JSON string.
func appendText(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // strings always marshal
		return append(dst, `""`...)
	}
	return append(dst, b...)
}

func errValidation(format string, args ...any) error {
	return &table.Error{Code: codeValidation, Message: fmt.Sprintf(format, args...)}
}

func errSerialization(message string) error {
	return &table.Error{Code: codeSerialization, Message: message}
}

func errUnknownOperation(message string) error {
	return &table.Error{Code: codeUnknownOp, Message: message}
}

// errNotHere refuses an operation that this version has not. Those of DynamoDB
// are named; of any other nothing is said, as in DynamoDB.
func errNotHere(operation string) error {
	known := []string{
		"BatchExecuteStatement", "CreateBackup", "DeleteBackup", "DeleteResourcePolicy", "DescribeBackup", "DescribeContributorInsights",
		"DescribeExport", "DescribeImport", "DescribeKinesisStreamingDestination", "DescribeTableReplicaAutoScaling",
		"DisableKinesisStreamingDestination", "EnableKinesisStreamingDestination", "ExecuteStatement", "ExecuteTransaction",
		"ExportTableToPointInTime", "GetResourcePolicy", "ImportTable", "ListBackups", "ListContributorInsights", "ListExports", "ListImports",
		"PutResourcePolicy", "RestoreTableFromBackup", "RestoreTableToPointInTime", "TransactGetItems", "TransactWriteItems",
		"UpdateContinuousBackups", "UpdateContributorInsights", "UpdateKinesisStreamingDestination", "UpdateTableReplicaAutoScaling",
	}
	if !slices.Contains(known, operation) {
		return errUnknownOperation("")
	}
	return errUnknownOperation(operation + " is not supported by this version of antipode")
}

func errNotFound(format string, args ...any) error {
	return &table.Error{Code: codeNotFound, Message: fmt.Sprintf(format, args...)}
}

// errDenied says what the key may not do, and why, in the form of AWS's own message.
func (c *call) errDenied(resource, why string) error {
	return &table.Error{Code: codeAccessDenied, Message: fmt.Sprintf(
		"User: arn:aws:iam::%s:user/%s is not authorized to perform: dynamodb:%s on resource: %s because %s",
		account, c.key.ID, c.op.name, resource, why)}
}

// enveloped puts a refusal into the frame in which DynamoDB's single-item
// writes report what is wrong with a request.
func enveloped(err error) error {
	var data *attr.Error
	var api *table.Error
	message := ""
	switch {
	case errors.As(err, &data) && data.Code == codeValidation:
		message = data.Message
	case errors.As(err, &api) && api.Code == codeValidation:
		message = api.Message
	default:
		return err
	}
	const frame = "1 validation error detected: "
	if strings.HasPrefix(message, frame) {
		return err
	}
	return errValidation("%s%s", frame, message)
}

// toTable makes errors of a request into those that travel between regions.
func toTable(err error) error {
	if data, ok := errors.AsType[*attr.Error](err); ok {
		return &table.Error{Code: data.Code, Message: data.Message}
	}
	return err
}
