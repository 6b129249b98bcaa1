# The server ends, or a part of it, while the engine is at work: no process is left behind, and
# what can be waited for does not take long.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', slow_model => 1);
my $short = slow_sql(20);
my $right = $node->safe_psql('postgres', $short);

# A generation that would take long; gives (query, engine, supervisor).
sub start_long
{
	my ($what, $database) = @_;
	my $query = start_query($node, { db => $database || 'postgres' }, endless_sql());

	ok(wait_generating($node), "$what: generating");
	return ($query, engine_pid($node), supervisor_pid($node));
}

sub all_gone
{
	my ($what, @pids) = @_;
	ok(poll_until(sub { !grep { process_exists($_) } @pids }), "$what: no process is left");
	return;
}

# DROP DATABASE does not wait for the generation.
{
	$node->safe_psql('postgres', 'CREATE DATABASE doomed');
	$node->safe_psql('doomed', 'CREATE EXTENSION gpt2');
	my ($query) = start_long('drop database', 'doomed');
	my $started = time;
	$node->safe_psql('postgres', 'DROP DATABASE doomed WITH (FORCE)');
	elapsed_ok($started, 2, 'drop database: done');
	like((finish_query($query))[2], qr/FATAL:  57P01/, 'drop database: the session ended');
	ok(idle_engine($node), 'drop database: nothing is left in the engine');
}

# DROP EXTENSION neither: the running call goes on to its end.
{
	my $sql = slow_sql(7000);	# one call, because there is no next one
	my $expected = $node->safe_psql('postgres', $sql);
	my $query = start_query($node, $sql);

	ok(wait_generating($node), 'drop extension: generating');
	$node->safe_psql('postgres', 'DROP EXTENSION gpt2');
	is((finish_query($query))[1], $expected, 'drop extension: the running call ends well');
	$node->safe_psql('postgres', 'CREATE EXTENSION gpt2');
}

# kill -9 of the backend: the server restarts its sessions, supervisor and engine come back with the next call.
{
	my ($query, $engine) = start_long('backend killed');
	my $pid = $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE query LIKE'
		  . " '%7000%' AND state = 'active' AND pid <> pg_backend_pid()");

	kill 'KILL', $pid;
	finish_query($query);
	all_gone('backend killed', $engine);
	ok(poll_sql($node, $short, $right), 'backend killed: back, with the same text');
}

for my $mode ('fast', 'immediate')
{
	my ($query, @pids) = start_long($mode);
	my $started = time;

	$node->stop($mode);
	elapsed_ok($started, 5, "$mode: stopped");
	finish_query($query);
	all_gone($mode, @pids);
	$node->start;
	is($node->safe_psql('postgres', $short), $right, "$mode: the same text after a start");
}

# Idle, too.
{
	my @pids = (engine_pid($node), supervisor_pid($node));
	$node->restart;
	all_gone('restart', @pids);
	is($node->safe_psql('postgres', $short), $right, 'restart: the same text');
}

# kill -9 of the postmaster.
{
	my ($query, $engine) = start_long('postmaster killed');
	my @pids = ($engine, server_processes($node));
	my $started = time;

	$node->kill9;
	finish_query($query);
	all_gone('postmaster killed', @pids);
	elapsed_ok($started, 1, 'postmaster killed: all ended');
	# A start looks for any process of that number, also one that waits to be reaped.
	ok(poll_until(sub { !grep { -e "/proc/$_" } @pids }), 'postmaster killed: reaped');
	$node->start;
	is($node->safe_psql('postgres', $short), $right, 'postmaster killed: the same text');
}

# A standby has the engine too, and a promotion does not touch it.
{
	my $backup = 'copy';
	my $standby = PostgreSQL::Test::Cluster->new('standby');

	$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 4\n");
	$node->append_conf('pg_hba.conf', "local replication all trust\n");
	$node->restart;
	is($node->safe_psql('postgres', $short), $right, 'standby: the primary generates');
	$node->backup($backup);
	ok(!-e $node->backup_dir . "/$backup/pg_stat_tmp/gpt2_engine.sock",
		'standby: no socket in a base backup');
	$standby->init_from_backup($node, $backup, has_streaming => 1);
	$standby->start;
	is($standby->safe_psql('postgres', $short), $right, 'standby: the same text');
	my $engine = engine_pid($standby);
	$standby->promote;
	is($standby->safe_psql('postgres', $short), $right, 'standby: the same text when promoted');
	is(engine_pid($standby), $engine, 'standby: the same engine when promoted');
	$standby->stop;
}

$node->stop;
done_testing();
