package gandi_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// run runs a client's script against the bed and returns what it printed.
func (b *bed) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "URL="+b.url, "KEY="+b.key, "NODE_PATH="+nodeModules)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, &stderr)
	}
	return string(out)
}

// 88: the document's Python, with our host and key.
const seedScript = `
import os, time, xmlrpc.client as xmlrpclib
api = xmlrpclib.ServerProxy(os.environ['URL'])
apikey = os.environ['KEY']
version = api.version.info(apikey)
assert version == {'api_version': '3.3.42'}, version
assert api.paas.list(apikey) == []
assert api.paas.count(apikey) == 0

paas_spec = {
    'name': 'My PaaS',
    'size': 'm',
    'type': 'phpmysql',
    'datacenter_id': 1,
    'vhosts': ['vhost.test.fr'],
    'quantity': 0,
    'duration': '3m',
    'password': 'xxxxxxxxxx',
    '--dry-run': True}
ops = api.paas.create(apikey, paas_spec)
assert len(ops) == 1 and ops[0]['attr'][0] == 'vhost.test.fr' and ops[0]['field_type'] is None, ops
assert ops[0]['reason'] == 'You must put a TXT value in your zone', ops

paas_spec = {
    'name': 'My PaaS',
    'size': 'm',
    'type': 'phpmysql',
    'datacenter_id': 1,
    'vhosts': ['vhost.hosted.test'],
    'quantity': 0,
    'duration': '3m',
    'password': 'xxxxxxxxxx'}
ops = api.paas.create(apikey, paas_spec)
assert len(ops) == 3
assert ops[0]['type'] == 'paas_vm_create'
assert ops[1]['type'] == 'paas_disk_create'
assert ops[2]['type'] == 'rproxy_create'
deadline = time.time() + 60
while any(api.operation.info(apikey, op['id'])['step'] != 'DONE' for op in ops):
    assert time.time() < deadline
paas = api.paas.list(apikey)[0]
assert paas['catalog_name'] == 'phpmysql_m' and paas['state'] == 'running' and paas['date_end_commitment'] is None, paas
assert isinstance(paas['date_start'], xmlrpclib.DateTime) and paas['need_upgrade'] is False
assert api.paas.list(apikey, {'size':'s'}) == []
assert api.paas.count(apikey) == 1
assert api.paas.count(apikey, {'size':'s'}) == 0
info = api.paas.info(apikey, paas['id'])
assert info['servers'][0]['graph_urls']['vcpu'][0].startswith('http://')
assert info['vhosts'][0]['name'] == 'vhost.hosted.test'
assert info['autorenew'] is None and info['owner']['handle'].startswith('RV')

name = "O'Neil \"x\" <y> & \u00e9\u4e16"
api.paas.create(apikey, dict(paas_spec, name=name, vhosts=[]))
assert [p['name'] for p in api.paas.list(apikey, {'sort_by': 'id DESC'})] == [name, 'My PaaS']

multi = xmlrpclib.MultiCall(api)
multi.version.info(apikey)
multi.paas.info(apikey, 12345)
multi.paas.count(apikey)
results = multi()
assert results[0]['api_version'] == '3.3.42' and results[2] == 2
try:
    results[1]
    raise SystemExit('no fault')
except xmlrpclib.Fault as fault:
    assert fault.faultCode == 537542, fault
assert 'paas.create' in api.system.listMethods()
assert xmlrpclib.ServerProxy(os.environ['URL'], allow_none=True).paas.count(apikey, None) == 2
dates = xmlrpclib.ServerProxy(os.environ['URL'], use_builtin_types=True).paas.list(apikey)
assert dates[0]['date_end'].month == (dates[0]['date_start'].month + 2) % 12 + 1, dates
assert len(api.paas.list(apikey, {'>date_start': xmlrpclib.DateTime('20000101T00:00:00')})) == 2

op = api.paas.delete(apikey, paas['id'])
assert op['type'] == 'paas_delete'
while api.operation.info(apikey, op['id'])['step'] != 'DONE':
    assert time.time() < deadline
assert api.paas.count(apikey) == 1
try:
    api.paas.info('a' * 24, 1)
    raise SystemExit('no fault')
except xmlrpclib.Fault as fault:
    assert fault.faultCode == 510150 and 'OBJECT_ACCOUNT (CAUSE_NORIGHT)' in fault.faultString, fault
print('whole')
`

func TestPythonRunsTheDocumentsSnippets(t *testing.T) {
	b := newBed(t).work()
	if got := b.run(t, "python3", "-c", seedScript); got != "whole\n" {
		t.Errorf("got %q", got)
	}
	b.stop()
	b.noSecrets()
}

// 94, 95: the client itself is not at hand, its calls are. The script sends them in its order and reads what it reads.
func TestCallsOfTheCommandLineClient(t *testing.T) {
	b := newBed(t).work()
	t.Setenv("PASSWORD", secretPassword)
	t.Setenv("SSH_KEY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f alice@example.test")
	if got := b.run(t, "python3", "testdata/gandi_cli.py"); got != "whole\n" {
		t.Errorf("got %q", got)
	}
	b.stop()
	b.noSecrets()
}

// 20, 92: stock Ruby has no nil.
func TestRubyReadsRepliesWithoutNil(t *testing.T) {
	b := newBed(t)
	b.create()
	if err := exec.Command("ruby", "-e", "require 'xmlrpc/client'").Run(); err != nil {
		t.Skipf("Ruby with the xmlrpc gem is not installed: %v", err)
	}
	got := b.run(t, "ruby", "-e", `
require 'xmlrpc/client'
server = XMLRPC::Client.new2(ENV['URL'])
puts server.call('version.info', ENV['KEY'])['api_version'], server.call('paas.count', ENV['KEY'])
puts XMLRPC::Client.new2(ENV['URL'] + '?nil=string').call('paas.list', ENV['KEY']).length`)
	if got != "3.3.42\n1\n1\n" {
		t.Errorf("got %q", got)
	}
}

func TestNodeReadsDatesAndNil(t *testing.T) {
	b := newBed(t)
	b.create()
	if err := command("node", "-e", "require('xmlrpc')").Run(); err != nil {
		t.Skipf("node with the npm package xmlrpc is not installed: %v", err)
	}
	got := b.run(t, "node", "-e", `
const url = new URL(process.env.URL)
const api = require('xmlrpc').createClient({host: url.hostname, port: url.port, path: url.pathname})
api.methodCall('paas.list', [process.env.KEY], (error, rows) => {
  if (error) throw error
  console.log(JSON.stringify([rows.length, rows[0].date_start instanceof Date, rows[0].date_end_commitment]))
})`)
	var v []any
	if err := json.Unmarshal([]byte(got), &v); err != nil || len(v) != 3 || v[0] != 1.0 || v[1] != true || v[2] != nil {
		t.Errorf("got %q", got)
	}
}

func TestPHPReadsReplies(t *testing.T) {
	b := newBed(t)
	b.create("name", `O'Neil "x" <y> & é`)
	if err := exec.Command("php", "-r", "exit(function_exists('xmlrpc_decode') ? 0 : 1);").Run(); err != nil {
		t.Skipf("PHP with the xmlrpc extension is not installed: %v", err)
	}
	got := b.run(t, "php", "-r", `
$call = xmlrpc_encode_request('paas.list', [getenv('KEY'), []], ['encoding' => 'utf-8']);
$reply = file_get_contents(getenv('URL'), false, stream_context_create(['http' => ['method' => 'POST', 'header' => 'Content-Type: text/xml', 'content' => $call]]));
$rows = xmlrpc_decode($reply, 'utf-8');
echo count($rows), ' ', $rows[0]['name'], ' ', $rows[0]['date_start']->xmlrpc_type;`)
	if !strings.HasPrefix(got, `1 O'Neil "x" <y> & é`) || !strings.HasSuffix(got, "datetime") {
		t.Errorf("got %q", got)
	}
}

func TestPerlReadsReplies(t *testing.T) {
	b := newBed(t)
	b.create("name", `O'Neil "x" <y> & é`)
	for library, script := range map[string]string{
		"RPC::XML::Client": `
my $api = RPC::XML::Client->new($ENV{URL}, error_handler => sub { die @_ });
my $rows = $api->send_request('paas.list', $ENV{KEY}, {size => 'm'})->value;
my $fault = $api->send_request('paas.info', $ENV{KEY}, 99);
print join '|', scalar @$rows, $rows->[0]{name}, defined $rows->[0]{date_end_commitment} ? 'value' : 'nil', $fault->code;`,
		"XMLRPC::Lite": `
my $api = XMLRPC::Lite->proxy($ENV{URL});
my $rows = $api->call('paas.list', $ENV{KEY}, {size => 'm'})->result;
my $fault = $api->call('paas.info', $ENV{KEY}, 99);
print join '|', scalar @$rows, $rows->[0]{name}, defined $rows->[0]{date_end_commitment} ? 'value' : 'nil', $fault->faultcode;`,
	} {
		t.Run(library, func(t *testing.T) {
			if err := exec.Command("perl", "-M"+library, "-e", "1").Run(); err != nil {
				t.Skipf("Perl with %s is not installed: %v", library, err)
			}
			got := b.run(t, "perl", "-CS", "-M"+library, "-e", script)
			if want := "1|O'Neil \"x\" <y> & é|nil|537542"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
