package sqlite

// Statements that are prepared once per connection, because they run with every request or step. All others are parsed
// when they are needed.
var (
	hotReads = []string{
		accountByID, accountByEmail, credentialByHash,
		appRefByID, appRefByNum, appRefByName, appRefs, appRefsAll, appCount, appsByNums, nodesOfApps, routesOfApps, unitsOfApps,
		nodeByID, routeByName, allocationList, operationByNum, operationsOfGroup,
		groupByID, stepsOfGroup, cancelAsked, jobWaits, samplesOfNode,
	}
	hotWrites = []string{
		appInsert + " RETURNING num", appUpdate, nodeInsert + " RETURNING num", nodeUpdate, routeInsert + " RETURNING num", routeUpdate,
		operationStart, operationEnd, stepPut, operationProgress, groupInsert, groupEnd,
		operationInsert + " RETURNING num", auditInsert, sampleInsert, sampleThin, sampleDelete,
	}
)
