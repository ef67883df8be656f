package agentapi

// OperationStatus is the state of long work, the same words on agent and coordinator.
type OperationStatus string

// The states of an operation, in the order they are passed through.
const (
	OperationNew        OperationStatus = "new"
	OperationInProgress OperationStatus = "in-progress"
	OperationCompleted  OperationStatus = "completed"
	OperationFailed     OperationStatus = "failed"
	OperationCanceled   OperationStatus = "canceled"
)

// OperationIDParams names one operation.
type OperationIDParams struct {
	OperationID string `json:"operation_id"`
}

// OperationResultParams are the parameters of operation.result.
type OperationResultParams struct {
	OperationID string `json:"operation_id"`
	LogsFrom    int    `json:"logs_from,omitempty"` // leave out so many log lines, which the caller has; ours, old callers do not send it
}

// Operation is the record operation.result answers with.
type Operation struct {
	ID     string          `json:"id"` // random UUID
	Name   string          `json:"name"`
	Status OperationStatus `json:"status"`
	Result any             `json:"result"` // null until completed
	Error  *string         `json:"error"`  // text without the class name
	Trace  *string         `json:"trace"`
	Logs   []string        `json:"logs"`           // never null
	Kind   Kind            `json:"kind,omitempty"` // of the error; ours, "" for one that nobody classified
}
