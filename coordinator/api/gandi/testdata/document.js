// The calls of the API document over the npm package xmlrpc. See document.py.
const url = new URL(process.env.URL)
const api = require('xmlrpc').createClient({host: url.hostname, port: url.port, path: url.pathname})
const call = (method, ...params) => new Promise((resolve, reject) =>
  api.methodCall(method, [process.env.KEY, ...params], (error, value) => error ? reject(error) : resolve(value)))
const wait = async ops => {
  const deadline = Date.now() + 60000
  for (const op of ops) {
    while ((await call('operation.info', op.id)).step !== 'DONE') {
      if (Date.now() > deadline) throw new Error('too late')
    }
  }
}
const spec = {name: 'My PaaS', size: 'm', type: 'phpmysql', datacenter_id: 1, vhosts: ['vhost.hosted.test'],
  quantity: 0, duration: '3m', password: 'xxxxxxxxxx'}
const main = async () => {
  console.log('version', (await call('version.info')).api_version)
  console.log('empty', (await call('paas.list')).length, await call('paas.count'))
  const item = (await call('paas.create', {...spec, vhosts: ['vhost.test.fr'], '--dry-run': true}))[0]
  console.log('dry run', item.field, item.error, item.attr[0], item.field_type === null ? 'nil' : 'value', item.reason)
  let ops = await call('paas.create', spec)
  console.log('create', ...ops.map(op => op.type))
  await wait(ops)
  const row = (await call('paas.list'))[0]
  console.log('list', row.name, row.catalog_name, row.state, row.date_end_commitment === null ? 'nil' : 'value',
    row.need_upgrade === false ? 'false' : 'other', row.servers.length)
  console.log('filtered', (await call('paas.list', {size: 's'})).length, await call('paas.count', {size: 's'}), await call('paas.count', {size: 'm'}))
  const info = await call('paas.info', row.id)
  console.log('info', info.datacenter.iso, info.vhosts[0].name, info.servers[0].graph_urls.vcpu[0].slice(0, 7), info.datadisk_total_size.toFixed(1))
  ops = await call('paas.update', row.id, {size: 'xl'})
  console.log('update', ops[0].type)
  await wait(ops)
  const op = await call('paas.delete', row.id)
  console.log('delete', op.type)
  await wait([op])
  await call('paas.info', row.id).catch(error => console.log('fault', error.faultCode))
}
main().catch(error => { console.error(error); process.exit(1) })
