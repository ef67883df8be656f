# The calls of the API document, with our URL and key. Every language prints the same.
import os
import time
import xmlrpc.client

api = xmlrpc.client.ServerProxy(os.environ['URL'])
apikey = os.environ['KEY']


def wait(ops):
    deadline = time.monotonic() + 60
    for op in ops:
        while api.operation.info(apikey, op['id'])['step'] != 'DONE':
            assert time.monotonic() < deadline


spec = {'name': 'My PaaS', 'size': 'm', 'type': 'phpmysql', 'datacenter_id': 1, 'vhosts': ['vhost.hosted.test'],
        'quantity': 0, 'duration': '3m', 'password': 'xxxxxxxxxx'}
print('version', api.version.info(apikey)['api_version'])
print('empty', len(api.paas.list(apikey)), api.paas.count(apikey))
item = api.paas.create(apikey, dict(spec, vhosts=['vhost.test.fr'], **{'--dry-run': True}))[0]
print('dry run', item['field'], item['error'], item['attr'][0], 'nil' if item['field_type'] is None else 'value', item['reason'])
ops = api.paas.create(apikey, spec)
print('create', *[op['type'] for op in ops])
wait(ops)
row = api.paas.list(apikey)[0]
print('list', row['name'], row['catalog_name'], row['state'], 'nil' if row['date_end_commitment'] is None else 'value',
      'false' if row['need_upgrade'] is False else 'other', len(row['servers']))
print('filtered', len(api.paas.list(apikey, {'size': 's'})), api.paas.count(apikey, {'size': 's'}), api.paas.count(apikey, {'size': 'm'}))
info = api.paas.info(apikey, row['id'])
print('info', info['datacenter']['iso'], info['vhosts'][0]['name'], info['servers'][0]['graph_urls']['vcpu'][0][:7], info['datadisk_total_size'])
ops = api.paas.update(apikey, row['id'], {'size': 'xl'})
print('update', ops[0]['type'])
wait(ops)
op = api.paas.delete(apikey, row['id'])
print('delete', op['type'])
wait([op])
try:
    api.paas.info(apikey, row['id'])
except xmlrpc.client.Fault as fault:
    print('fault', fault.faultCode)
