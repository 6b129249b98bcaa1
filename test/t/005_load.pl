# Loading by several sessions at once, a change of the engine's settings while it works, packs that are
# removed.
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

sub log_count
{
	my ($pattern) = @_;
	my @hits = slurp_file($node->logfile) =~ /$pattern/g;
	return scalar @hits;
}

# Changes postgresql.conf and has the server read it.
sub reload
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	$node->reload;
	return;
}

# One load for all.
{
	my @queries = map { start_query($node, $_ % 2 ? "SELECT gpt_load_model('slow')"
			: "SELECT gpt_count_tokens('abc', 'slow')") } (1 .. 8);
	my @errors = map { (finish_query($_))[2] } @queries;

	is(join('', @errors), '', 'loads at once: all succeed');
	is(log_count(qr/gpt2 engine: loaded model "slow"/), 1, 'loads at once: one load');
	is($node->safe_psql('postgres', "SELECT state FROM gpt_models WHERE name = 'slow'"), 'loaded',
		'loads at once: loaded');
}

# Directories are taken over by the running engine.
{
	my $engine = engine_pid($node);

	mkdir $node->data_dir . '/more_models';
	rename $node->data_dir . '/gpt2_models/slow', $node->data_dir . '/more_models/moved'
	  or die "could not rename: $!";
	my ($rc, $out, $err) =
	  finish_query(start_query($node, "SELECT gpt_count_tokens('abc', 'moved')"));
	like($err, qr/ERROR:  42704/, 'model_path: not found before');
	reload(q(gpt2.model_path = 'gpt2_models, "more_models", $sharedir/gpt2/models'));
	ok(poll_sql($node, "SELECT gpt_count_tokens('abc', 'moved')", 3), 'model_path: found after');
	is($node->safe_psql('postgres', "SELECT count(*) FROM gpt_models WHERE name = 'demo'"), 1,
		'model_path: $sharedir is still searched');
	is(engine_pid($node), $engine, 'model_path: the same engine');
	rename $node->data_dir . '/more_models/moved', $node->data_dir . '/gpt2_models/slow'
	  or die "could not rename: $!";
}

# Threads and kernels need another process; running queries go on.
{
	my $right = $node->safe_psql('postgres', slow_sql(3000));
	my $engine = engine_pid($node);
	my $query = start_generating($node, slow_sql(3000));

	ok(wait_generating($node), 'threads: generating');
	# More often than a request may see its engine die: these are no deaths.
	foreach my $threads (1, 3, 1)
	{
		my $before = engine_pid($node);

		reload("gpt2.threads = $threads");
		ok( poll_sql(
				$node, "SELECT engine_pid <> $before AND threads = $threads FROM gpt_info()"),
			"threads: another engine with $threads");
		ok(wait_generating($node), 'threads: generating again');
	}
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", $right, 'threads: the running query ends with the same text');
	ok(!process_exists($engine), 'threads: the old engine is gone');

	$engine = engine_pid($node);
	reload("gpt2.cpu = 'portable'");
	ok(poll_sql($node, "SELECT engine_pid <> $engine AND isa ~ 'portable' FROM gpt_info()"),
		'cpu: another engine with other kernels');
	is($node->safe_psql('postgres', slow_sql(20)), $node->safe_psql('postgres', slow_sql(20)),
		'cpu: it generates');
	is(log_count(qr/restarting the gpt2 engine with other settings/), 4, 'one line for each');
}

# A setting with which no engine starts: calls are told why, the tries become rare, and a reload with
# a better value does not have to wait for the next one.
{
	my $call = slow_sql(1);
	my $ended = qr/gpt2 engine \(PID \d+\) ended/;
	my $before = log_count($ended);
	my $err;

	reload($node->safe_psql('postgres', 'SELECT isa FROM gpt_info()') =~ /neon/
		? "gpt2.cpu = 'avx2'" : "gpt2.cpu = 'neon'");
	# So often that the next try is ten seconds away.
	ok( poll_until(
			sub {
				$err = (finish_query(start_query($node, $call)))[2];
				return log_count($ended) >= $before + 11;
			}),
		'no such cpu: several tries');
	like($err, qr/ERROR:  58000: .*does not start: instruction set "\w+" is not available/,
		'no such cpu: the call is told why');
	reload("gpt2.cpu = 'portable'");
	ok(poll_sql($node, 'SELECT engine_pid IS NOT NULL FROM gpt_info()', 't', 9),
		'no such cpu: corrected, and an engine starts at once');
	is($node->safe_psql('postgres', $call) ne '', 1, 'no such cpu: it generates');
}

# What has not changed or is wrong does nothing.
{
	my $engine = engine_pid($node);

	reload("work_mem = '8MB'");
	ok(poll_sql($node, 'SHOW work_mem', '8MB'), 'reload: read');
	reload("gpt2.device = 'abacus'\ngpt2.weight_format = 'q9'\n"
		  . "gpt2.model_path = '\$nowhere/x'\nwork_mem = '9MB'");
	ok(poll_sql($node, 'SHOW work_mem', '9MB'), 'wrong values: read');
	# Where the library is not preloaded, the postmaster cannot judge them; sessions do.
	my $err = (finish_query(start_query($node, "LOAD 'gpt2'")))[2];
	like($err, qr/WARNING: .*"gpt2.device": "abacus".*Valid values are: auto, cpu/s,
		'wrong device: a warning');
	like($err, qr/WARNING: .*The macro in .* is unknown/s, 'wrong path: a warning');
	is($node->safe_psql('postgres', slow_sql(20)) ne '', 1, 'wrong values: it still works');
	is(engine_pid($node), $engine, 'wrong values: the same engine');
}

# Settings of a session.
{
	my ($rc, $out, $err) = finish_query(start_query($node, "LOAD 'gpt2'",
			"SET gpt2.model = '../x'", "SET gpt2.temperature = -0.5", 'SET gpt2.top_p = 0',
			"SET gpt2.threads = 4", "SET gpt2.no_such_setting = 1"));

	like($err, qr/42602: invalid value for parameter "gpt2.model"/, 'gpt2.model: 42602');
	like($err, qr/22023: invalid value for parameter "gpt2.temperature"/, 'gpt2.temperature');
	like($err, qr/22023: invalid value for parameter "gpt2.top_p"/, 'gpt2.top_p');
	like($err, qr/55P02: parameter "gpt2.threads" cannot be changed now/, 'gpt2.threads');
  SKIP:
	{
		skip 'prefixes are reserved from 15 on', 1 if $node->pg_version < 15;
		like($err, qr/invalid configuration parameter name "gpt2.no_such_setting"/,
			'names are reserved');
	}
}

# Packs above the limit go when no loaded model uses them.
{
	$node->safe_psql('postgres', "SELECT gpt_load_model('demo')");
	reload('gpt2.pack_cache_size = 1MB');
	$node->safe_psql('postgres', "SELECT gpt_unload_model('demo')");
	ok(poll_until(sub { log_count(qr/LOG: .*removed \d+ packed files .*pack_cache_size/) > 0 }),
		'packs: the log says that some were removed');
	ok( poll_until(
			sub {
				my @left = glob $node->data_dir . '/base/pgsql_tmp_gpt2/demo-*.pack';
				return !@left;
			}),
		'packs: that of the model which was unloaded');
	is($node->safe_psql('postgres', "SELECT length(gpt_generate('a', 2, 'demo')) >= 0"), 't',
		'packs: it is made again');
}

$node->stop;
done_testing();
