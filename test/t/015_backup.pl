# Copies of a cluster that are made while its engine works: pg_basebackup with pg_verifybackup,
# pg_rewind, pg_checksums; and what a replica needs to give the same texts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Copy qw(move);
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $short = slow_sql(20);
my $hash = "SELECT content_hash FROM gpt_models WHERE name = 'slow'";
my $packs = 'base/pgsql_tmp_gpt2';

sub checksums
{
	my ($node, $what, @options) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'pg_checksums', @options, '-D', $node->data_dir ],
		'>', \$out, '2>', \$err);

	ok($ok, $what) or diag($out, $err);
	return;
}

my $primary = PostgreSQL::Test::Cluster->new('primary');
# 18 has checksums from the start, and is to be given them here.
$primary->init(allows_streaming => 1,
	extra => $primary->pg_version < 18 ? [] : ['--no-data-checksums']);
$primary->append_conf('postgresql.conf', "gpt2.threads = 2\ngpt2.result_cache_size = 0\n"
	  . "wal_keep_size = 320MB\n");
add_slow_model($primary);
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION gpt2');
my $right = $primary->safe_psql('postgres', $short);
my $right_hash = $primary->safe_psql('postgres', $hash);
my $usage = $primary->safe_psql('postgres',
	"SELECT to_regclass('gpt_stat_usage') IS NOT NULL") eq 't';

# pg_checksums reads every file in base: packs are none of its own.
$primary->stop;
ok(-d $primary->data_dir . "/$packs", 'packs are in the data directory');
checksums($primary, 'pg_checksums --enable', '--enable');
checksums($primary, 'pg_checksums --check', '--check');
$primary->start;
is($primary->safe_psql('postgres', $short), $right, 'the same text with checksums');

# A base backup while a generation runs.
{
	my $query = start_generating($primary, slow_sql(1500));
	my $copy = $primary->backup_dir . '/copy';

	ok(wait_generating($primary), 'backup: generating');
	# It compares every file with the manifest.
	$primary->backup('copy');
	SKIP:
	{
		skip 'pg_verifybackup does not start', 1
		  unless IPC::Run::run([ 'pg_verifybackup', '--version' ], '>', \my $version, '2>&1');
		$primary->command_ok([ 'pg_verifybackup', '-n', $copy ], 'backup: pg_verifybackup');
	}
	is((finish_generating($primary, $query))[0], 0, 'backup: the query goes on');
	ok(!-e "$copy/$packs", 'backup: no packs');
	is(join(' ', glob "$copy/pg_stat_tmp/*"), '', 'backup: no socket, no lock file');
	ok(-f "$copy/gpt2_models/slow/model.safetensors", 'backup: the models');
}

# The restored cluster, as one of its own: it packs the model again.
{
	my $restored = PostgreSQL::Test::Cluster->new('restored');

	$restored->init_from_backup($primary, 'copy', has_restoring => 1, standby => 0);
	# Nothing is archived: recovery ends where the backup does.
	$restored->append_conf('postgresql.conf', "restore_command = 'false'\n");
	$restored->start;
	ok(poll_sql($restored, 'SELECT NOT pg_is_in_recovery()'), 'restored: recovered');
	if ($usage)
	{
		is($restored->safe_psql('postgres',
				'SELECT coalesce(sum(calls), 0) FROM gpt_stat_usage'),
			0, 'restored: the counters are not those of the primary');
	}
	is($restored->safe_psql('postgres', $short), $right, 'restored: the same text');
	is($restored->safe_psql('postgres', $hash), $right_hash, 'restored: the same content hash');
	$restored->stop;
}

# A standby gives the same text; one without the model says so, and works when it is copied.
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
{
	my $models = $standby->data_dir . '/gpt2_models';

	move("$models/slow", $standby->data_dir . '/elsewhere') or die "could not move: $!";
	$standby->start;
	my ($rc, $out, $err) = finish_query(start_query($standby, $short));
	like($err, qr/ERROR:  42704: .*"slow"/, 'standby without the model: 42704');
	move($standby->data_dir . '/elsewhere', "$models/slow") or die "could not move: $!";
	is($standby->safe_psql('postgres', $short), $right, 'standby: the same text');
	is($standby->safe_psql('postgres', $hash), $right_hash, 'standby: the same content hash');
}

# The primary dies, the standby takes its place, and the old primary is rewound while its own
# socket, lock file and packs lie there, and the new one's engine works.
{
	$primary->wait_for_catchup($standby);
	# All at once, so that nobody removes the socket.
	my @pids = (server_processes($primary), engine_pid($primary));
	kill 'STOP', $pids[0];
	kill 'KILL', @pids[1 .. $#pids];
	$primary->kill9;
	# A start looks for any process of that number, also one that waits to be reaped.
	ok(poll_until(sub { !grep { -e "/proc/$_" } @pids }), 'rewind: the primary is gone');
	ok(-S $primary->data_dir . '/pg_stat_tmp/gpt2_engine.sock', 'rewind: its socket is left');
	$standby->promote;
	$standby->safe_psql('postgres', 'CREATE TABLE after_promotion AS SELECT 1 AS a; CHECKPOINT');
	my $query = start_generating($standby, slow_sql(1500));
	ok(wait_generating($standby), 'rewind: the new primary generates');

	# As Cluster.pm's own tests do: the configuration of the target is kept.
	my $conf = PostgreSQL::Test::Utils::tempdir() . '/postgresql.conf';
	my $data = $primary->data_dir;
	system_or_bail('cp', "$data/postgresql.conf", $conf);
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[ 'pg_rewind', '--target-pgdata', $data, '--source-server',
			$standby->connstr('postgres'),
			$primary->pg_version < 15 ? () : ('--config-file', $conf) ],
		'>', \$out, '2>', \$err);
	ok($ok, 'rewind: pg_rewind') or diag($out, $err);
	is((finish_generating($standby, $query))[0], 0, 'rewind: the query on the source goes on');
	ok(!-e "$data/$packs", 'rewind: no packs');
	system_or_bail('cp', $conf, "$data/postgresql.conf");
	$primary->enable_streaming($standby);
	$primary->set_standby_mode;
	$primary->start;
	ok(poll_sql($primary, 'SELECT a = 1 FROM after_promotion'), 'rewind: it follows');
	is($primary->safe_psql('postgres', $short), $right, 'rewind: the same text');
	$primary->stop;
}

$standby->stop;
checksums($standby, 'pg_checksums --check after promotion', '--check');
done_testing();
