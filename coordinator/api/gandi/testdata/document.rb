# The calls of the API document, with the nil parser that stock Ruby has turned off. See document.py.
require 'xmlrpc/client'
XMLRPC::Config.send(:remove_const, :ENABLE_NIL_PARSER)
XMLRPC::Config::ENABLE_NIL_PARSER = true

@server = XMLRPC::Client.new2(ENV['URL'])
def call(method, *params) = @server.call(method, ENV['KEY'], *params)

def finish(*ops)
  deadline = Time.now + 60
  ops.each do |op|
    raise 'too late' if Time.now > deadline until call('operation.info', op['id'])['step'] == 'DONE'
  end
end

spec = {'name' => 'My PaaS', 'size' => 'm', 'type' => 'phpmysql', 'datacenter_id' => 1, 'vhosts' => ['vhost.hosted.test'],
        'quantity' => 0, 'duration' => '3m', 'password' => 'xxxxxxxxxx'}
puts "version #{call('version.info')['api_version']}"
puts "empty #{call('paas.list').length} #{call('paas.count')}"
item = call('paas.create', spec.merge('vhosts' => ['vhost.test.fr'], '--dry-run' => true))[0]
puts "dry run #{item['field']} #{item['error']} #{item['attr'][0]} #{item['field_type'].nil? ? 'nil' : 'value'} #{item['reason']}"
ops = call('paas.create', spec)
puts "create #{ops.map { |op| op['type'] }.join(' ')}"
finish(*ops)
row = call('paas.list')[0]
puts "list #{row['name']} #{row['catalog_name']} #{row['state']} #{row['date_end_commitment'].nil? ? 'nil' : 'value'} " \
     "#{row['need_upgrade'] == false ? 'false' : 'other'} #{row['servers'].length}"
puts "filtered #{call('paas.list', {'size' => 's'}).length} #{call('paas.count', {'size' => 's'})} #{call('paas.count', {'size' => 'm'})}"
info = call('paas.info', row['id'])
puts "info #{info['datacenter']['iso']} #{info['vhosts'][0]['name']} #{info['servers'][0]['graph_urls']['vcpu'][0][0, 7]} #{info['datadisk_total_size']}"
ops = call('paas.update', row['id'], {'size' => 'xl'})
puts "update #{ops[0]['type']}"
finish(*ops)
op = call('paas.delete', row['id'])
puts "delete #{op['type']}"
finish(op)
begin
  call('paas.info', row['id'])
rescue XMLRPC::FaultException => e
  puts "fault #{e.faultCode}"
end
