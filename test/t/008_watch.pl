# The views gpt_stat_requests, gpt_stat_usage and gpt_stat_engine, versions in gpt_info, and what asks
# for a restart or a reset, against an engine that this test plays: values, who sees what, answers
# that are malformed.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use FakeEngine;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->safe_psql('postgres', 'CREATE ROLE ann; CREATE ROLE bob; CREATE ROLE eve;'
	  . ' GRANT pg_read_all_stats TO eve');
my %oid = map { $_ => $node->safe_psql('postgres', "SELECT '$_'::regrole::oid") } ('ann', 'bob');
my $database = $node->safe_psql('postgres',
	'SELECT oid FROM pg_database WHERE datname = current_database()');

my $library = $node->safe_psql('postgres', 'SELECT version FROM gpt_info()');

listen_as_engine($node);
say_engine_runs();

# Runs statements that ask the engine, which gives these answers: [request, answer, payload].
# Gives (output, errors).
sub ask_engine
{
	my ($statements, @answers) = @_;
	my $query = start_query($node, @$statements);
	my $socket = welcome(accept_backend());

	for my $answer (@answers)
	{
		my ($request, $id) = take($socket);
		is($request, $type{ $answer->[0] }, "the backend asks for $answer->[0]")
		  unless ($request || 0) == $type{ $answer->[0] };
		put($socket, $answer->[1], $id, $answer->[2]);
	}
	my ($rc, $out, $err) = finish_query($query);
	return ($out, $err);
}

sub list { return pack('L', scalar @_) . join '', map { text($_) } @_ }

# ---- requests ----

# pid, role, database, model, state, sequence, prompt, generated, max_len, queued, started
sub request_row { return pack('L L L L/a* L L L L L q q', @_) }

my $second = 1_700_000_000_000_000;	# 2023-11-14 22:13:20 UTC
my $requests = list(
	request_row(11, $oid{ann}, $database, 'demo', 5, 0, 20, 7, 50, $second, $second + 1000),
	request_row(12, $oid{bob}, 0, 'demo', 1, 0, 0, 0, 9, $second, 0),
	map { request_row(11 + $_, 999999, $database, 'demo', $_, 1, 3, 0, 9, $second, 0) } 2 .. 4);
my $zone = "SET TimeZone = 'UTC'";
my $select = 'SELECT * FROM gpt_stat_requests ORDER BY pid';
my $ann = '11|ann|postgres|demo|decode|20|7|50|2023-11-14 22:13:20+00|2023-11-14 22:13:20.001+00';
my $bob = '12|bob||demo|loading||0|9|2023-11-14 22:13:20+00|';
my ($out, $err) = ask_engine([ $zone, $select ], [ 'REQUESTS', 'REQUEST_LIST', $requests ]);
is("$out$err", join("\n", $ann, $bob, map { "1$_->[0]||postgres|demo|$_->[1]|3|0|9|"
		  . '2023-11-14 22:13:20+00|' } [ 3, 'queued' ], [ 4, 'throttled' ], [ 5, 'prefill' ]),
	'requests: a superuser sees all');
for my $case ([ 'ann', $ann ], [ 'bob', $bob ])
{
	($out, $err) = ask_engine([ $zone, "SET ROLE $case->[0]", $select ],
		[ 'REQUESTS', 'REQUEST_LIST', $requests ]);
	is("$out$err", $case->[1], "requests: $case->[0] sees the own");
}
($out) = ask_engine([ 'SET ROLE eve', 'SELECT count(*) FROM gpt_stat_requests' ],
	[ 'REQUESTS', 'REQUEST_LIST', $requests ]);
is($out, 5, 'requests: pg_read_all_stats sees all');

# ---- usage ----

sub usage_row { return pack('L L L L/a* Q11 d', @_) }

my $usage = list(
	usage_row(2026 * 12, $oid{ann}, $database, 'demo', 1 .. 9, 1_000_000, 60_000_000, 2.5),
	usage_row(2026 * 12 + 11, $oid{bob}, $database, 'demo', ((1) x 11), 0));
($out, $err) = ask_engine([ 'SET ROLE ann', 'SELECT * FROM gpt_stat_usage' ],
	[ 'USAGE', 'USAGE_LIST', $usage ]);
is("$out$err", '2026-01-01|ann|postgres|demo|1|2|3|4|5|6|7|8|9|00:00:01|00:01:00|2.5|312500',
	'usage: ann sees her own');
($out) = ask_engine([ 'SET ROLE eve', 'SELECT month FROM gpt_stat_usage ORDER BY 1' ],
	[ 'USAGE', 'USAGE_LIST', $usage ]);
is($out, "2026-01-01\n2026-12-01", 'usage: pg_read_all_stats sees all');

# ---- the engine ----

# model, format, steps, step sequences, prompt, completion, busy us, tokens/s, blocks used, cached,
# total, prefix asked, hits, preemptions, running, queued, bytes, drafted, kept
sub engine_row { return pack('L/a* L/a* Q5 d Q6 L L Q3', @_) }

my $engine = list(
	engine_row('demo', 'f32', 10, 35, 400, 200, 4_000_000, 12.5, 5, 6, 70, 8, 2, 3, 4, 1, 1000, 50, 40),
	engine_row('secret', 'f32', (0) x 5, 0, (0) x 11),
	engine_row('none', 'f32', (0) x 5, 0, (0) x 11),
	engine_row('left', 'f32', (0) x 5, 0, (0) x 11));	# is no model any more
my $demo = 'demo|f32|10|3.5|12.5|50|400|200|4|1|5|6|70|0.25|3|1000|50|0.8';
my $idle = 'f32|0||0||0|0|0|0|0|0|0||0|0|0|';

# A model as the engine describes it: state loaded, roles, restricted.
sub model_row
{
	my ($name, $restricted, @roles) = @_;
	return pack('L/a* L L L/a* Q L L L/a* L/a* L/a* Q L/a* L/a* q q', $name, 2, 100, 'gpt2', 1, 64,
		257, 'gpt2-bpe', 'f32', 'cpu', 1000, 'ff', '', 1, 1)
	  . list(@roles) . pack('L', $restricted);
}

my $models = list(model_row('demo', 0), model_row('secret', 1, 'bob', 'nobody'),
	model_row('none', 1));
$select = 'SELECT * FROM gpt_stat_engine ORDER BY model';
for my $role ('NONE', 'eve')
{
	($out, $err) = ask_engine([ "SET ROLE $role", $select ], [ 'ENGINE', 'ENGINE_LIST', $engine ]);
	is("$out$err", join("\n", $demo, map { "$_|$idle" } qw(left none secret)),
		"engine: role $role sees all models");
}
for my $case ([ 'ann', $demo ], [ 'bob', "$demo\nsecret|$idle" ])
{
	($out, $err) = ask_engine([ "SET ROLE $case->[0]", $select ],
		[ 'ENGINE', 'ENGINE_LIST', $engine ], [ 'MODELS', 'MODEL_LIST', $models ]);
	is("$out$err", $case->[1], "engine: $case->[0] sees models that it may use");
}
for my $case ([ 'ann', 'demo' ], [ 'bob', 'demo,secret' ], [ 'eve', 'demo' ])
{
	($out, $err) = ask_engine(
		[ "SET ROLE $case->[0]", "SELECT string_agg(name, ',' ORDER BY name) FROM gpt_models" ],
		[ 'MODELS', 'MODEL_LIST', $models ]);
	is("$out$err", $case->[1], "gpt_models: $case->[0] sees models that it may use");
}

# ---- versions ----

# version, arithmetic, isa, blas, device, driver, threads, pids, started, counters, restart pending
sub info_row { return pack('(L/a*)6 L3 q L2 Q2 L', $_[0], ('') x 5, 2, 1, 2, 1, 0, 0, 0, 0, $_[1]) }

for my $case (
	[ $library, 0, "$library|f" ], [ $library, 1, "$library|t" ],
	[ '0.9.9', 0, "$library (engine 0.9.9)|t" ], [ '1', 0, "$library (engine 1)|f" ],
	[ '1.0.10', 0, "$library (engine 1.0.10)|f" ], [ 'odd.', 0, "$library (engine odd.)|t" ])
{
	($out, $err) = ask_engine([ 'SELECT version, restart_pending FROM gpt_info()' ],
		[ 'INFO', 'INFO_ROW', info_row(@$case[ 0, 1 ]) ]);
	is("$out$err", $case->[2], "version: engine $case->[0]");
}

# ---- restart, reset ----

for my $case ([ 'gpt_restart_engine', 'RESTART' ], [ 'gpt_stat_reset', 'USAGE_RESET' ])
{
	($out, $err) = ask_engine([ "SELECT $case->[0]() IS NOT NULL" ], [ $case->[1], 'DONE', '' ]);
	is("$out$err", 't', "$case->[0]: sends $case->[1]");
	($out, $err) = ask_engine([ "SELECT $case->[0]()", 'SELECT 1' ],
		[ $case->[1], 'ERROR', '55000' . text('too old') . text('') . text('h') ]);
	like($err, qr/ERROR:  55000: too old\nHINT:  h/, "$case->[0]: an error of the engine");
	is($out, 1, "$case->[0]: the session is good");
}

# ---- malformed answers ----

for my $case (
	[ 'requests', 'REQUESTS', 'REQUEST_LIST',
		pack('L', 2) . text(request_row((1) x 3, 'm', (1) x 7)) ],
	[ 'requests', 'REQUESTS', 'REQUEST_LIST', pack('L L', 1, 99) . 'short' ],
	[ 'usage', 'USAGE', 'USAGE_LIST', pack('L', 0xFFFFFFFF) ],
	[ 'usage', 'USAGE', 'USAGE_LIST', list(usage_row(0xFFFFFFFF, 1, 1, 'm', (1) x 12)) ],
	[ 'engine', 'ENGINE', 'ENGINE_LIST', list('ab') ],
	[ 'engine', 'ENGINE', 'ENGINE_LIST', 'ab' ])
{
	my ($view, $request, $answer, $payload) = @$case;
	($out, $err) = ask_engine([ "SELECT * FROM gpt_stat_$view", 'SELECT 1' ],
		[ $request, $answer, $payload ]);
	like($err, qr/ERROR:  XX000: malformed answer of the gpt2 engine/, "$view: malformed");
	is($out, 1, "$view: the session is good");
}
for my $view ('requests', 'usage', 'engine')
{
	($out, $err) = ask_engine([ "SELECT * FROM gpt_stat_$view", 'SELECT 1' ],
		[ uc $view, 'DONE', '' ]);
	like($err, qr/ERROR:  XX000: unexpected answer of type 5/, "$view: another answer");
}

$node->stop;
done_testing();
