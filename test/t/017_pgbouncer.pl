# Behind PgBouncer in transaction mode: calls, cancels and errors are the client's own; a SET of one
# client reaches the next one, which arguments and SET LOCAL do not.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($program) = grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
plan skip_all => 'PgBouncer is not installed (Debian package pgbouncer)' unless $program;

my $node = new_server('main', slow_model => 1);
my $place = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $user = $node->safe_psql('postgres', 'SELECT current_user');

# Two sessions of the server for all clients.
append_to_file("$place/pgbouncer.ini", <<"END");
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]} user=$user
limited = host=@{[ $node->host ]} port=@{[ $node->port ]} user=ann dbname=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = $place
listen_port = $port
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
logfile = $place/log
pidfile = $place/pid
END
system_or_bail($program, '-d', '-q', "$place/pgbouncer.ini");
ok(poll_until(sub { -s "$place/pid" && -S "$place/.s.PGSQL.$port" }), 'PgBouncer is up');
my $pid = slurp_file("$place/pid") + 0;
END { kill 'INT', $pid if $pid }

# For start_query: connections go to PgBouncer.
{
	package Pooled;
	sub connstr { return "host=$place port=$port dbname=$_[1] user=$user" }
}
my $pooled = bless {}, 'Pooled';
my $short = slow_sql(20);
my $right = $node->safe_psql('postgres', $short);
my $demo = "SELECT gpt_count_tokens('The printer')";
my $right_demo = $node->safe_psql('postgres', 'SET gpt2.model = demo; ' . $demo);

# Each of the two sessions is replaced, and has ended before another client comes.
sub forget
{
	my $others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) $others");
	ok(poll_sql($node, "SELECT count(*) $others", 0), 'the sessions are replaced');
	return;
}

# Many clients, two sessions.
{
	my @queries = map { start_query($pooled, $short, $short) } (1 .. 20);
	my @answers = map { join '|', (finish_query($_))[ 1, 2 ] } @queries;
	is(scalar(grep { $_ eq "$right\n$right|" } @answers), 20, 'many clients: the right texts');
	is(scalar(engines_of($node)), 1, 'many clients: one engine');
}

# SET leaks to whoever comes next ...
{
	forget();
	my ($first, $second) = (open_session($pooled), open_session($pooled));
	ask($first, "SET gpt2.model = 'slow';");
	# One of the two server sessions has it: both are asked at once.
	my @seen = map { ask($second, 'SHOW gpt2.model;') } (1 .. 4);
	ok(scalar(grep { $_ eq 'slow' } @seen), 'SET: seen by another client') or diag(@seen);

	# ... SET LOCAL and arguments do not.
	forget();
	($first, $second) = (open_session($pooled), open_session($pooled));
	is(ask($first, "BEGIN; SET LOCAL gpt2.model = 'slow'; $demo; COMMIT;"), 11,
		'SET LOCAL: holds in the transaction');
	@seen = map { ask($second, "LOAD 'gpt2'; SHOW gpt2.model;") } (1 .. 4);
	is(scalar(grep { $_ eq 'slow' } @seen), 0, 'SET LOCAL: not seen by another client');
	is(ask($first, "SELECT gpt_count_tokens('The printer', 'slow');"), 11, 'an argument');
	is(ask($second, "SELECT gpt_count_tokens('The printer', 'demo');"), $right_demo,
		'another argument');

	# What belongs to a role belongs to every session of the pool.
	$node->safe_psql('postgres', "ALTER ROLE $user SET gpt2.model = 'slow'");
	forget();
	is(ask(open_session($pooled), "$demo;"), 11, 'ALTER ROLE SET: holds for all');
	$node->safe_psql('postgres', "ALTER ROLE $user RESET gpt2.model");
	forget();
}

# A cancel goes through, to the right session; the pool's session is good for the next client.
{
	my $query = start_query($pooled, endless_sql());
	ok(wait_generating($node), 'cancel: generating');
	$query->{run}->signal('INT');
	like((finish_query($query))[2], qr/ERROR:  57014/, 'cancel: 57014');
	ok(idle_engine($node), 'cancel: nothing is left in the engine');
	is((finish_query(start_query($pooled, $short)))[1], $right, 'cancel: the next client');
}

# A client that goes away in mid-generation: PgBouncer closes the session, and the engine stops.
{
	my $query = start_query($pooled, endless_sql());
	ok(wait_generating($node), 'client gone: generating');
	kill_query($query, $node);
	ok(idle_engine($node), 'client gone: nothing is left in the engine');
	is((finish_query(start_query($pooled, $short)))[1], $right, 'client gone: the next client');
}

# The limits are those of the role that the pool connects as, whatever its clients set.
{
	$node->safe_psql('postgres', "CREATE ROLE ann LOGIN; LOAD 'gpt2';"
		  . ' ALTER ROLE ann SET gpt2.max_tokens_per_minute = 0');
	for my $set ('SET gpt2.max_tokens_per_minute = -1', 'SELECT 1')
	{
		my ($rc, $out, $err) =
		  finish_query(start_query($pooled, { db => 'limited' }, $set, $short));
		like($err, qr/ERROR:  53400: .*ann/, "limit: holds after $set");
	}
	is((finish_query(start_query($pooled, $short)))[1], $right, 'limit: not for another role');
}

# An engine's end is no end of the pool's connections.
{
	my $query = start_query($pooled, slow_sql(7000));
	ok(wait_generating($node), 'engine killed: generating');
	kill 'KILL', engine_pid($node);
	is((finish_query($query))[0], 0, 'engine killed: the query ends');
}

kill 'INT', $pid;
ok(poll_until(sub { !process_exists($pid) }), 'PgBouncer ends');
$pid = 0;
$node->stop;
done_testing();
