package agentapi

// EnableMMSParams are the parameters of mongodb.enable_mms: let the MongoDB Agent of this host report to Ops Manager or
// Cloud Manager. Failures are told in the result, as old callers expect it.
//
// Result:  MMSResult
// Errors:  TypeError (a parameter is missing)
// Effects: /etc/mongodb-mms/automation-agent.config, 0600; enables and restarts mongodb-mms-automation-agent.service
// Source:  spec agent-core 7, D20
type EnableMMSParams struct {
	APIKey    Secret `json:"api_key" rpc:"required"`    // mmsApiKey
	SecretKey Text   `json:"secret_key" rpc:"required"` // mmsGroupId, the project; the old agent's secret key is of no use today
}

// MMSResult is what enable_mms and disable_mms answer.
type MMSResult struct {
	Status string `json:"status"` // "Ok" or "Fail"
	Error  string `json:"error"`  // "" when Ok
}
