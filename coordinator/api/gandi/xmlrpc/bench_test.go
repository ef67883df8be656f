package xmlrpc_test

import (
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
)

// BenchmarkEncoder writes a list of 1,000 structs such as paas.list returns.
func BenchmarkEncoder(b *testing.B) {
	at := time.Date(2011, 9, 14, 14, 36, 30, 0, time.UTC)
	f := xmlrpc.NewField
	id, name, kind, size, catalogname, state, datadiskadditionalsize, datestart, dateend, dateendcommitment, needupgrade, console, snapshotprofile, datacenterid, servers := f("id"), f("name"), f("type"), f("size"), f("catalog_name"), f("state"), f("data_disk_additional_size"), f("date_start"), f("date_end"), f("date_end_commitment"), f("need_upgrade"), f("console"), f("snapshot_profile"), f("datacenter_id"), f("servers")
	b.ReportAllocs()
	for b.Loop() {
		e := xmlrpc.NewEncoder()
		e.BeginReply()
		e.BeginArray()
		for i := range int64(1000) {
			e.BeginStruct()
			id.Int(e, i)
			name.String(e, "Mon PaaS")
			kind.String(e, "phpmysql")
			size.String(e, "m")
			catalogname.String(e, "phpmysql_m")
			state.String(e, "running")
			datadiskadditionalsize.Int(e, 0)
			datestart.Time(e, at)
			dateend.Time(e, at)
			dateendcommitment.Nil(e)
			needupgrade.Bool(e, true)
			console.String(e, "2001@10.0.0.11")
			snapshotprofile.Nil(e)
			datacenterid.Int(e, 1)
			servers.Begin(e)
			e.BeginArray()
			e.BeginStruct()
			id.Int(e, i)
			e.EndStruct()
			e.EndArray()
			e.EndMember()
			e.EndStruct()
		}
		e.EndArray()
		e.EndReply()
		b.SetBytes(int64(e.Len()))
		e.Free()
	}
}
