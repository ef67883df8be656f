"""Makes the calls of Gandi's command-line client 1.6, in its order, and reads of the replies what it reads.

URL and KEY come from the environment. A reply that the client would stumble over ends the script with an exception.
"""
import os
import time
import xmlrpc.client


class Failed(Exception):
    pass


class Client:
    def __init__(self, key):
        self.key = key
        self.api = xmlrpc.client.ServerProxy(os.environ['URL'], allow_none=True, use_datetime=True)

    def call(self, method, *args, safe=False, dry_run=False):
        """Calls a method. safe turns a fault into an empty list; dry_run asks after a fault what is wrong, and prints it."""
        function = getattr(self.api, method)
        try:
            return function(self.key, *args)
        except xmlrpc.client.Fault as fault:
            if safe:
                return []
            if fault.faultCode == 510150:
                raise Failed('Invalid API key')
            if not dry_run:
                raise
            args[-1]['--dry-run'] = True
            raise Failed('\n'.join('%s\n\t%s' % (item['reason'], ' '.join(item['attr'])) for item in function(self.key, *args)))

    def progress(self, operations):
        """Polls operations until all are done, as the progress bar does, and returns every score it saw."""
        if not isinstance(operations, list):
            operations = [operations]
        scores, deadline = [], time.time() + 60
        while not scores or scores[-1] < 3 * len(operations):
            assert time.time() < deadline, scores
            steps = [self.call('operation.info', one['id'])['step'] for one in operations]
            scores.append(sum({'BILL': 0, 'WAIT': 1, 'RUN': 2, 'DONE': 3}[step] for step in steps))
        assert scores == sorted(scores), scores
        return scores

    def resolve(self, text):
        """Finds an instance by name, by the name of a vhost, or by id."""
        names = {one['name']: one['id'] for one in self.call('paas.list', {'items_per_page': 500})}
        vhosts = {one['name']: one['paas_id'] for one in self.call('paas.vhost.list', {})}
        return names.get(text) or vhosts.get(text) or int(text)

    def quota(self, number):
        now = time.time()
        metrics = self.call('hosting.metric.query', {
            'start': time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now - 60)), 'end': time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now)),
            'query': 'vfs.df.bytes.all', 'resource_id': [number], 'resource_type': 'paas',
            'sampler': {'unit': 'minutes', 'value': 1, 'function': 'avg'}})
        space = {'free': 0, 'used': 0}
        for metric in metrics:
            what = metric['size'].pop()
            for point in reversed(metric['points']):
                if 'value' in point:
                    space[what] = point['value']
                    break
        return space

    def cache(self, number):
        now = time.time()
        metrics = self.call('hosting.metric.query', {
            'start': time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now - 86400)), 'end': time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now)),
            'query': 'webacc.requests.cache.all', 'resource_id': [number], 'resource_type': 'paas',
            'sampler': {'unit': 'days', 'value': 1, 'function': 'sum'}})
        counts = {'hit': 0, 'miss': 0, 'not': 0, 'pass': 0}
        for metric in metrics:
            what = metric['cache'].pop()
            for point in metric['points']:
                counts[what] += point.get('value', 0)
        return counts


cli = Client(os.environ['KEY'])

# api, datacenters, paas types
assert cli.call('version.info')['api_version'].startswith('3.3.')
for one in cli.call('hosting.datacenter.list', {}, safe=True):
    assert one['iso'] and one['name'] and one['country'] and one['dc_code'] and one['id'] > 0, one
    if one['deactivate_at']:
        one['deactivate_at'].strftime('%d/%m/%Y')
    assert one['paas_closed_for'] in ('NONE', 'NEW', 'ALL'), one
types = [one['name'] for one in cli.call('paas.type.list', {}, safe=True)]
assert 'phpmysql' in types, types

# paas create, in the foreground
rows = cli.call('hosting.datacenter.list', {})
choices = [one['dc_code'] for one in rows] + [one['iso'] for one in rows]
given = 'lu-bi1'.upper()  # whatever is typed
assert given in choices and all(one == one.upper() for one in choices), choices
where = cli.call('hosting.datacenter.list', {'dc_code': given, 'paas_opened': True}, safe=True)
assert len(where) == 1, where
assert cli.call('hosting.datacenter.list', {'iso': where[0]['iso'], 'paas_opened': True}, safe=True) == where
created = cli.call('paas.create', {'name': 'paas1448', 'size': 's', 'type': 'phpmysql', 'duration': '1m', 'datacenter_id': where[0]['id'],
                                   'password': os.environ['PASSWORD'], 'quantity': 5})
assert cli.resolve('paas1448') == created[0]['paas_id']
assert cli.progress(created)[-1] == 9
paas = cli.call('paas.info', cli.resolve('paas1448'))
cli.progress(cli.call('paas.vhost.create', {'paas_id': paas['id'], 'vhost': 'cli.hosted.test', 'zone_alter': True}, dry_run=True))

# paas list, paas info --stat
for one in cli.call('paas.list', {'items_per_page': 100, 'state': 'running'}):
    assert [one['name'], one['state'], one['type']] == ['paas1448', 'running', 'phpmysql'] and one['id'], one
    assert [vhost['name'] for vhost in cli.call('paas.vhost.list', {'paas_id': one['id']})] == ['cli.hosted.test']
number = cli.resolve('cli.hosted.test')
assert number == paas['id'] == cli.resolve(str(paas['id']))
paas = cli.call('paas.info', number)
for member in ('name', 'type', 'size', 'console', 'git_server', 'ftp_server'):
    assert isinstance(paas[member], str) and paas[member], (member, paas)
assert paas['datacenter'].get('dc_code', paas['datacenter'].get('iso')) == 'LU-BI1'
assert paas['snapshot_profile'] is None or paas['snapshot_profile']['name']
space = cli.quota(number)
assert set(space) == {'free', 'used'}
assert '%.1f%%' % (space['used'] / ((paas['datadisk_total_size'] or 1) * 1024 ** 3) * 100)
assert cli.cache(number).keys() == {'hit', 'miss', 'not', 'pass'}

# paas update without and with options, paas console, paas attach, paas restart
cli.progress(cli.call('paas.update', number, {}))
cli.progress(cli.call('paas.update', number, {'size': 'm', 'quantity': 6, 'snapshot_profile': '', 'upgrade': True}))
paas = cli.call('paas.info', number)
assert (paas['size'], paas['datadisk_total_size']) == ('m', 16.0), paas
cli.progress(cli.call('paas.update', number, {'console': 1}))
assert 'ssh %s' % cli.call('paas.info', number)['console'] == 'ssh %s@%s' % (paas['user'], paas['ftp_server'])
assert 'ssh+git://%s@%s/%s.git' % (paas['user'], paas['git_server'], paas['vhosts'][0]['name'] if 'php' in paas['type'] else 'default')
restarted = cli.call('paas.restart', number)
cli.progress(restarted if isinstance(restarted, list) else [restarted])

# vhost create of a name that is not proven, vhost list --names, vhost info, vhost delete --bg
try:
    cli.call('paas.vhost.create', {'paas_id': number, 'vhost': 'shop.example.com', 'zone_alter': False}, dry_run=True)
    raise SystemExit('the name is taken for proven')
except Failed as failure:
    reason, attr = str(failure).split('\n')
    name, token = attr.strip().split(' ')
    assert reason == 'You must put a TXT value in your zone' and name == 'shop.example.com' and len(token) == len('vhost=') + 32, failure
names = {one['id']: one['name'] for one in cli.call('paas.list', {'items_per_page': 500})}
for one in cli.call('paas.vhost.list', {'items_per_page': 100}):
    assert one['state'] == 'running' and one['date_creation'].year > 2000 and names[one['paas_id']] == 'paas1448', one
one = cli.call('paas.vhost.info', 'cli.hosted.test')
assert not cli.call('cert.hosted.list', {'fqdns': one['name'], 'state': 'created'}) and one['paas_id'] == number
gone = cli.call('paas.vhost.delete', 'cli.hosted.test')
assert gone['id'] and gone['type'] and gone['step'] in ('BILL', 'WAIT')
cli.progress(gone)

# oper list, oper info
newest = cli.call('operation.list', {'step': ['BILL', 'WAIT', 'RUN'], 'items_per_page': 100, 'sort_by': 'date_created DESC'})
assert newest == [], newest
done = cli.call('operation.list', {'items_per_page': 1, 'sort_by': 'date_created DESC'})
assert [one['id'] for one in done] == [gone['id']], done
one = cli.call('operation.info', gone['id'])
assert one['step'] == 'DONE' and one['last_error'] is None and one['type'] == gone['type'], one

# snapshotprofile list, sshkey, account info
for method in ('paas.snapshotprofile.list', 'hosting.snapshotprofile.list'):
    for one in cli.call(method, {}, safe=True):
        assert one['id'] and one['name'] and one['kept_total'], one
key = cli.call('hosting.ssh.create', {'name': 'mine', 'value': os.environ['SSH_KEY']})
assert cli.call('hosting.ssh.list', {'name': 'mine'})[0]['fingerprint'].count(':') == 15
assert cli.call('hosting.ssh.info', key['id'])['value'].startswith('ssh-')
cli.progress(cli.call('hosting.ssh.delete', key['id']))
assert cli.call('hosting.account.info')['handle'] and 'credits' in cli.call('hosting.account.info')
assert cli.call('hosting.rating.list', {}) == [] and 'amount' in cli.call('contact.balance')['prepaid']

# paas delete: every instance must be readable first
for one in cli.call('paas.list', {'items_per_page': 500}):
    assert [vhost['name'] for vhost in cli.call('paas.info', one['id'])['vhosts']] == []
deleted = cli.call('paas.delete', cli.resolve('paas1448'))
cli.progress(deleted if isinstance(deleted, list) else [deleted])
try:
    cli.resolve('paas1448')
    raise SystemExit('a deleted instance is still found')
except ValueError:
    pass

try:
    Client('a' * 24).call('paas.list', {})
    raise SystemExit('a key that nobody has works')
except Failed as failure:
    assert str(failure) == 'Invalid API key'
print('whole')
