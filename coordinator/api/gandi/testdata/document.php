<?php // The calls of the API document over PHP's own xmlrpc extension, which PEAR's XML_RPC2 is built on. See document.py.
function call(string $method, ...$params) {
    $body = xmlrpc_encode_request($method, array_merge([getenv('KEY')], $params), ['encoding' => 'utf-8']);
    $context = stream_context_create(['http' => ['method' => 'POST', 'header' => 'Content-Type: text/xml', 'content' => $body]]);
    return xmlrpc_decode(file_get_contents(getenv('URL'), false, $context), 'utf-8');
}
function wait(array $ops): void {
    $deadline = time() + 60;
    foreach ($ops as $op) {
        while (call('operation.info', $op['id'])['step'] !== 'DONE') {
            if (time() > $deadline) exit("too late\n");
        }
    }
}
function say(...$words): void { echo implode(' ', $words), "\n"; }
$spec = ['name' => 'My PaaS', 'size' => 'm', 'type' => 'phpmysql', 'datacenter_id' => 1, 'vhosts' => ['vhost.hosted.test'],
    'quantity' => 0, 'duration' => '3m', 'password' => 'xxxxxxxxxx'];
say('version', call('version.info')['api_version']);
say('empty', count(call('paas.list')), call('paas.count', []));
$item = call('paas.create', ['vhosts' => ['vhost.test.fr'], '--dry-run' => true] + $spec)[0];
say('dry run', $item['field'], $item['error'], $item['attr'][0], $item['field_type'] === null ? 'nil' : 'value', $item['reason']);
$ops = call('paas.create', $spec);
say('create', ...array_column($ops, 'type'));
wait($ops);
$row = call('paas.list')[0];
say('list', $row['name'], $row['catalog_name'], $row['state'], $row['date_end_commitment'] === null ? 'nil' : 'value',
    $row['need_upgrade'] === false ? 'false' : 'other', count($row['servers']));
say('filtered', count(call('paas.list', ['size' => 's'])), call('paas.count', ['size' => 's']), call('paas.count', ['size' => 'm']));
$info = call('paas.info', $row['id']);
say('info', $info['datacenter']['iso'], $info['vhosts'][0]['name'], substr($info['servers'][0]['graph_urls']['vcpu'][0], 0, 7),
    sprintf('%.1f', $info['datadisk_total_size']));
$ops = call('paas.update', $row['id'], ['size' => 'xl']);
say('update', $ops[0]['type']);
wait($ops);
$op = call('paas.delete', $row['id']);
say('delete', $op['type']);
wait([$op]);
say('fault', call('paas.info', $row['id'])['faultCode']);
