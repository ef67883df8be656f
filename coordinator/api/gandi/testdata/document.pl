# The calls of the API document over RPC::XML or, with LITE set, XMLRPC::Lite. See document.py.
use strict;
use warnings;

my $key = $ENV{KEY};
my $call;
if ($ENV{LITE}) {
    require XMLRPC::Lite;
    my $api = XMLRPC::Lite->proxy($ENV{URL});
    $call = sub {
        my $answer = $api->call(shift, $key, @_);
        return $answer->fault ? {faultCode => $answer->faultcode} : $answer->result;
    };
} else {
    require RPC::XML::Client;
    my $api = RPC::XML::Client->new($ENV{URL}, error_handler => sub { die @_ });
    $call = sub {
        my $answer = $api->send_request(shift, $key, @_);
        return $answer->is_fault ? {faultCode => $answer->code} : $answer->value;
    };
}
sub truth { $ENV{LITE} ? SOAP::Data->type(boolean => 1) : RPC::XML::boolean->new(1) }
sub finish {
    my $deadline = time + 60;
    for my $op (@_) {
        until ($call->('operation.info', $op->{id})->{step} eq 'DONE') { die 'too late' if time > $deadline }
    }
}
sub say_words { print join(' ', @_), "\n" }
my %spec = (name => 'My PaaS', size => 'm', type => 'phpmysql', datacenter_id => 1, vhosts => ['vhost.hosted.test'],
    quantity => 0, duration => '3m', password => 'xxxxxxxxxx');
say_words('version', $call->('version.info')->{api_version});
say_words('empty', scalar @{$call->('paas.list')}, $call->('paas.count'));
my $item = $call->('paas.create', {%spec, vhosts => ['vhost.test.fr'], '--dry-run' => truth()})->[0];
say_words('dry run', $item->{field}, $item->{error}, $item->{attr}[0], defined $item->{field_type} ? 'value' : 'nil', $item->{reason});
my $ops = $call->('paas.create', \%spec);
say_words('create', map { $_->{type} } @$ops);
finish(@$ops);
my $row = $call->('paas.list')->[0];
say_words('list', $row->{name}, $row->{catalog_name}, $row->{state}, defined $row->{date_end_commitment} ? 'value' : 'nil',
    $row->{need_upgrade} ? 'other' : 'false', scalar @{$row->{servers}});
say_words('filtered', scalar @{$call->('paas.list', {size => 's'})}, $call->('paas.count', {size => 's'}), $call->('paas.count', {size => 'm'}));
my $info = $call->('paas.info', $row->{id});
say_words('info', $info->{datacenter}{iso}, $info->{vhosts}[0]{name}, substr($info->{servers}[0]{graph_urls}{vcpu}[0], 0, 7),
    sprintf('%.1f', $info->{datadisk_total_size}));
$ops = $call->('paas.update', $row->{id}, {size => 'xl'});
say_words('update', $ops->[0]{type});
finish(@$ops);
my $op = $call->('paas.delete', $row->{id});
say_words('delete', $op->{type});
finish($op);
say_words('fault', $call->('paas.info', $row->{id})->{faultCode});
