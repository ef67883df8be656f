package gandi

import (
	"fmt"
	"slices"
)

// method is one row of the table. Signatures are what system.methodSignature returns: result type first, then the
// parameters with the key; they also say how many arguments a call may have.
type method struct {
	name       string
	serve      func(*call) error
	public     bool // needs no key
	signatures []signature
	help       string
}

type signature []string

// The shapes that methods share.
var (
	keyOnlyStruct = []signature{{"struct", "string"}}
	keyAndStruct  = []signature{{"struct", "string", "struct"}}
	listOf        = []signature{{"array", "string"}, {"array", "string", "struct"}}
	countOf       = []signature{{"int", "string"}, {"int", "string", "struct"}}
	infoByID      = []signature{{"struct", "string", "int"}}
)

const listHelp = " Options filter by field: a value, or an array of values of which any may match; '~field' for a pattern, '>field' and " +
	"'<field' for dates; items_per_page (100, at most 500), page (from 0), sort_by ('field ASC' or 'field DESC')."

// methods is the table: what is not in it is not supported.
func methodsOffered() []*method {
	return []*method{
		{"version.info", (*call).versionInfo, false, keyOnlyStruct, "The version of this API."},

		{"paas.list", (*call).paasList, false, listOf, "The PaaS instances of the account." + listHelp},
		{"paas.count", (*call).paasCount, false, countOf, "How many PaaS instances paas.list has, over all pages."},
		{"paas.info", (*call).paasInfo, false, infoByID, "One PaaS instance, by its id."},
		{"paas.create", (*call).paasCreate, false, []signature{{"array", "string", "struct"}},
			"Creates a PaaS instance from name, size, type, datacenter_id, duration, password, and optionally quantity and vhosts. " +
				"Returns three operations at once. With '--dry-run' nothing is created and the problems are returned."},
		{"paas.delete", (*call).paasDelete, false, []signature{{"struct", "string", "int"}, {"struct", "string", "int", "struct"}},
			"Deletes a PaaS instance with its disk and vhosts. Returns one operation at once."},
		{"paas.update", (*call).paasUpdate, false, []signature{{"array", "string", "int", "struct"}},
			"Changes a PaaS instance: size, quantity (the new total of additional disk), password, name, console, reset_mysql_password. Returns one or two " +
				"operations at once. With '--dry-run' nothing is changed and the problems are returned."},
		{"paas.restart", (*call).paasRestart, false, []signature{{"array", "string", "int"}, {"array", "string", "int", "struct"}},
			"Boots a PaaS instance's server again. Returns one operation at once."},
		{"paas.renew", (*call).paasRenew, false, []signature{{"array", "string", "int", "struct"}},
			"Lets a PaaS instance run longer, by 'duration'. Returns two operations at once."},
		{"paas.type.list", (*call).typeList, false, listOf, "The types instances can have: a language and a database." + listHelp},
		{"paas.type.count", (*call).typeCount, false, countOf, "How many types paas.type.list has."},
		{"paas.vhost.list", (*call).vhostList, false, listOf, "The virtual hosts of the account's instances." + listHelp},
		{"paas.vhost.count", (*call).vhostCount, false, countOf, "How many virtual hosts paas.vhost.list has, over all pages."},
		{"paas.vhost.info", (*call).vhostInfo, false, []signature{{"struct", "string", "string"}}, "One virtual host, by its name."},
		{"paas.vhost.create", (*call).vhostCreate, false, []signature{{"struct", "string", "struct"}},
			"Serves an instance under another name: paas_id, vhost, and optionally zone_alter and override. Returns one operation at once. " +
				"With '--dry-run' nothing is changed and the problems are returned."},
		{"paas.vhost.delete", (*call).vhostDelete, false, []signature{{"struct", "string", "string"}, {"struct", "string", "string", "struct"}},
			"Ends a virtual host, by its name. Returns one operation at once."},
		{"paas.vhost.get_dns_entries", (*call).vhostDNSEntries, false, keyAndStruct,
			"The DNS records that the owner of the name 'vhost' publishes: TXT proves ownership, A and AAAA lead here."},
		{"paas.snapshotprofile.list", (*call).snapshotProfileList, false, listOf, "The snapshot profiles instances can have." + listHelp},
		{"paas.snapshotprofile.count", (*call).snapshotProfileCount, false, countOf, "How many snapshot profiles there are."},
		{"paas.snapshot.list", (*call).snapshotList, false, listOf, "The snapshots of the account's instances." + listHelp},
		{"paas.snapshot.count", (*call).snapshotCount, false, countOf, "How many snapshots paas.snapshot.list has, over all pages."},
		{"paas.snapshot.info", (*call).snapshotInfo, false, infoByID, "One snapshot, by its id."},
		{"paas.snapshot.create", (*call).snapshotCreate, false, infoByID,
			"Takes a snapshot of the disk of the PaaS instance with this id. It stays until it is deleted. Returns one operation at once."},
		{"paas.snapshot.delete", (*call).snapshotDelete, false, infoByID, "Deletes a snapshot, by its id. Returns one operation at once."},
		{"paas.snapshot.restore", (*call).snapshotRestore, false, infoByID,
			"Brings an instance's disk, files and databases, back to what it was in the snapshot with this id. What was written since is lost. " +
				"Returns one operation at once."},

		{"operation.list", (*call).operationList, false, listOf, "The operations of the account." + listHelp},
		{"operation.count", (*call).operationCount, false, countOf, "How many operations operation.list has, over all pages."},
		{"operation.info", (*call).operationInfo, false, infoByID, "One operation, by its id."},
		{"operation.cancel", (*call).operationCancel, false, []signature{{"boolean", "string", "int"}},
			"Stops an operation that has not finished, and those started with it; what they did is taken back."},

		{"datacenter.list", (*call).datacenterList, false, listOf, "Where instances can be created." + listHelp},
		{"hosting.datacenter.list", (*call).datacenterList, false, listOf, "The same as datacenter.list."},
		{"catalog.list", (*call).catalogList, false, []signature{{"array", "string", "struct"}, {"array", "string", "struct", "string"},
			{"array", "string", "struct", "string", "string"}, {"array", "string", "struct", "string", "string", "string"}},
			"What products cost: options product {type 'paas', description}, action {name, duration}; currency, grid. Nothing is charged."},
		{"hosting.account.info", (*call).accountInfo, false, keyOnlyStruct, "The account that the API key belongs to."},
		{"hosting.ssh.list", (*call).sshKeyList, false, listOf, "The SSH keys of the account." + listHelp},
		{"hosting.ssh.count", (*call).sshKeyCount, false, countOf, "How many SSH keys hosting.ssh.list has, over all pages."},
		{"hosting.ssh.info", (*call).sshKeyInfo, false, infoByID, "One SSH key with its value, by its id."},
		{"hosting.ssh.create", (*call).sshKeyCreate, false, keyAndStruct, "Adds an SSH key to the account: name and value, an OpenSSH public key."},
		{"hosting.ssh.delete", (*call).sshKeyDelete, false, infoByID,
			"Takes an SSH key from the account and off the servers of its instances. Returns one operation at once."},
		{"hosting.metric.query", (*call).metricQuery, false, []signature{{"array", "string", "struct"}},
			"What instances used over time: series of points. The struct has query, resource_id, resource_type 'paas', start, end and optionally sampler."},
		{"hosting.rating.list", (*call).ratingList, false, listOf, "What the account's resources cost; nothing is charged."},
		{"hosting.snapshotprofile.list", (*call).diskProfileList, false, listOf, "The snapshot profiles of disks; there are none."},
		{"contact.balance", (*call).contactBalance, false, keyOnlyStruct, "The prepaid balance; nothing is charged."},
		{"cert.hosted.list", (*call).certHostedList, false, listOf, "The certificates that the account uploaded for its virtual hosts." + listHelp},
		{"cert.hosted.count", (*call).certHostedCount, false, countOf, "How many certificates cert.hosted.list has, over all pages."},
		{"cert.hosted.info", (*call).certHostedInfo, false, infoByID, "One uploaded certificate with its names and virtual hosts, by its id."},
		{"cert.hosted.create", (*call).certHostedCreate, false, keyAndStruct, "Uploads a certificate: crt, PEM with its own first and then its issuers', and " +
			"key, PEM without a passphrase. Every virtual host that it covers shows it, also those that come later; operations of the type rproxy_update see to it."},
		{"cert.hosted.delete", (*call).certHostedDelete, false, []signature{{"boolean", "string", "int"}},
			"Deletes an uploaded certificate. Virtual hosts that showed it get another one, at least that of this platform's own authority."},

		{"system.listMethods", (*call).listMethods, true, []signature{{"array"}}, "The names of all methods, sorted."},
		{"system.methodSignature", (*call).methodSignature, true, []signature{{"array", "string"}},
			"The signatures of a method: arrays of type names, the result's first."},
		{"system.methodHelp", (*call).methodHelp, true, []signature{{"string", "string"}}, "What a method does."},
		{"system.multicall", (*call).multicall, true, []signature{{"array", "array"}},
			"Makes several calls, given as structs of methodName and params, each with its own key. Returns for each an array with " +
				"the result, or a fault struct."},
	}
}

func methodTable() (map[string]*method, []string) {
	table := map[string]*method{}
	var names []string
	for _, m := range methodsOffered() {
		table[m.name] = m
		names = append(names, m.name)
	}
	slices.Sort(names)
	return table, names
}

// arguments is how many a call may have, without the key.
func (m *method) arguments() (least, most int) {
	least = len(m.signatures[0])
	for _, s := range m.signatures {
		least, most = min(least, len(s)), max(most, len(s))
	}
	if m.public {
		return least - 1, most - 1
	}
	return least - 2, most - 2
}

// takes says how many arguments a method takes.
func (m *method) takes() string {
	least, most := m.arguments()
	key := "the API key and "
	if m.public {
		key = ""
	}
	if least == most {
		if most == 0 && !m.public {
			return "the API key and no other argument"
		}
		return fmt.Sprintf("%s%d %s", key, most, map[bool]string{true: "argument", false: "arguments"}[most == 1])
	}
	return fmt.Sprintf("%s%d to %d arguments", key, least, most)
}
