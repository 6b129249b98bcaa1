# A new version while the old one runs, pg_upgrade, and an uninstallation: the steps of
# docs/operations.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use Test::More;

my $short = slow_sql(20);
my $long = slow_sql(1000);
my $bin = config('--bindir');
my $scripts = config('--sharedir') . '/extension';
my $library = config('--pkglibdir') . '/gpt2.so';
my $owned = -w $scripts && -o $library;

sub config
{
	my $value = `"@{[ $ENV{PG_CONFIG} || 'pg_config' ]}" $_[0]`;
	chomp $value;
	return $value;
}

# A file of the installation that is there while code runs.
sub with_file
{
	my ($file, $text, $code) = @_;

	append_to_file($file, $text);
	eval { $code->(); 1 } or do { unlink $file; die $@ };
	unlink $file;
	return;
}

# ALTER EXTENSION UPDATE while sessions have the old library loaded and generate.
SKIP:
{
	skip 'the installation cannot be changed', 8 unless $owned;
	my $node = new_server('update', slow_model => 1);
	my $right = $node->safe_psql('postgres', $long);
	my $session = open_session($node);
	my $version = "SELECT extversion FROM pg_extension WHERE extname = 'gpt2'";

	is(ask($session, "SELECT gpt_count_tokens('a', 'slow');"), 1, 'update: the library is loaded');
	# What a script of the next version may do: SQL, or a function that the old library lacks.
	with_file("$scripts/gpt2--1.0--1.0next.sql",
		"CREATE FUNCTION gpt_next() RETURNS int LANGUAGE sql AS 'SELECT 1';\n",
		sub {
			my $query = start_generating($node, $long);
			ok(wait_generating($node), 'update: generating');
			$node->safe_psql('postgres', "ALTER EXTENSION gpt2 UPDATE TO '1.0next'");
			my ($rc, $out, $err) = finish_generating($node, $query);
			is("$out$err", $right, 'update: the running query ends with the same text');
		});
	is(ask($session, 'SELECT gpt_next();'), 1, 'update: the new function in the old session');
	is(ask($session, "$long;"), $right, 'update: the old function');
	with_file("$scripts/gpt2--1.0next--1.0after.sql",
		"CREATE FUNCTION gpt_after() RETURNS int"
		  . " AS 'MODULE_PATHNAME', 'gpt2_function_of_the_next_version' LANGUAGE C;\n",
		sub {
			like(ask($session, "ALTER EXTENSION gpt2 UPDATE TO '1.0after';"),
				qr/ERROR:  42883: could not find function "gpt2_function_of_the_next_version"/,
				'old library: it says what it lacks');
		});
	is(ask($session, "$version;"), '1.0next', 'old library: the version stays');
	is(ask($session, "$long;"), $right, 'old library: the session is good');
	$node->stop;
}

# Library and engine are replaced on disk, as by a package: what runs goes on with what it has.
SKIP:
{
	skip 'the installation cannot be changed', 9 unless $owned;
	my $node = new_server('package', slow_model => 1);
	my $pending = 'SELECT restart_pending FROM gpt_info()';
	my $right = $node->safe_psql('postgres', $long);
	my $engine = engine_pid($node);
	my $session = open_session($node);
	my $query = start_generating($node, $long);

	ok(wait_generating($node), 'package: generating');
	is($node->safe_psql('postgres', $pending), 'f', 'package: nothing is pending');
	for my $file ($library, engine_program())
	{
		system_or_bail('cp', '-p', $file, "$file.new");
		rename "$file.new", $file or die "could not rename: $!";
	}
	is((finish_generating($node, $query))[1], $right, 'package: the running query ends with the same text');
	is(ask($session, "$long;"), $right, 'package: a new session, the old engine');
	is(engine_pid($node), $engine, 'package: it is the old engine');
	is($node->safe_psql('postgres', $pending), 't', 'package: a restart is pending');
	my @lines = slurp_file($node->logfile) =~ /LOG: .*another gpt2 engine is installed/g;
	is(scalar @lines, 1, 'package: one line in the log');
	$node->safe_psql('postgres', 'SELECT gpt_restart_engine()');
	is(ask($session, "$long;"), $right, 'package: an old session, the new engine');
	is($node->safe_psql('postgres', $pending), 'f', 'package: nothing is pending any more');
	$node->stop;
}

# pg_upgrade carries the extension; models are the administrator's to copy.  (Old and new version
# are the same here: only one is installed.)
{
	my $old = new_server('old', slow_model => 1, conf => "shared_preload_libraries = 'gpt2'\n");
	my $new = PostgreSQL::Test::Cluster->new('new');

	$old->safe_psql('postgres', 'CREATE TABLE texts AS SELECT 1 AS id, NULL::text AS text');
	$old->safe_psql('postgres', 'CREATE VIEW lengths AS SELECT gpt_count_tokens(text) FROM texts');
	my $right = $old->safe_psql('postgres', $short);
	my $engine = engine_pid($old);

	# Two models of a role that is renamed; one of them is given to it once more.
	mkdir $old->data_dir . '/gpt2_models/late' or die "mkdir: $!";
	append_to_file($old->data_dir . '/gpt2_models/late/config.json', '{"model_type": "gpt2"}');
	$old->safe_psql('postgres', "CREATE ROLE ann;
		SELECT gpt_reassign_model('slow', 'ann'), gpt_reassign_model('late', 'ann');
		ALTER ROLE ann RENAME TO anne; CREATE ROLE ann");
	is($old->safe_psql('postgres', "SELECT name, owner, said FROM gpt_models, LATERAL (
		SELECT pg_read_file('gpt2_models/' || name || '/gpt2.json', 0, 65536, true)::jsonb ->> 'owner')
		AS file (said) WHERE said <> coalesce(owner, '')"), "late|anne|ann\nslow|anne|ann",
		'pg_upgrade: models whose owner has another name now');
	$old->safe_psql('postgres', "SELECT gpt_reassign_model('slow', 'anne')");
	$old->stop;
	ok(poll_until(sub { !process_exists($engine) }), 'pg_upgrade: the old engine has ended');
	$new->init;
	$new->append_conf('postgresql.conf', "gpt2.threads = 2\nshared_preload_libraries = 'gpt2'\n");

	# It writes into the working directory; its sockets' names must be short.
	my $place = PostgreSQL::Test::Utils::tempdir_short();
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[ 'pg_upgrade', $old->pg_version < 15 ? () : '--no-sync', '-b', $bin, '-B', $bin,
			'-d', $old->data_dir, '-D', $new->data_dir, '-s', $place, '-p', $old->port,
			'-P', $new->port ],
		'>', \$out, '2>', \$err, init => sub { chdir $place });
	ok($ok, 'pg_upgrade') or diag($out, $err);
	$new->start;
	is($new->safe_psql('postgres', 'SELECT count(*) FROM lengths'), 1, 'pg_upgrade: a view');
	($ok, $out, $err) = finish_query(start_query($new, $short));
	like($err, qr/ERROR:  42704: /, 'pg_upgrade: the models are not copied');
	PostgreSQL::Test::RecursiveCopy::copypath($old->data_dir . '/gpt2_models',
		$new->data_dir . '/gpt2_models');
	is($new->safe_psql('postgres', $short), $right, 'pg_upgrade: copied, the same text');
	my $owners = "SELECT name, owner FROM gpt_models WHERE name IN ('slow', 'late') ORDER BY name";
	is($new->safe_psql('postgres', $owners), "late|ann\nslow|anne", 'pg_upgrade: owners go by their names');
	$new->safe_psql('postgres', "SELECT gpt_reassign_model('late', 'anne')");
	is($new->safe_psql('postgres', $owners), "late|anne\nslow|anne", 'pg_upgrade: and are put right');
	$new->stop;
}

# Uninstalling: with the files gone first, a server that preloads the library does not start.
SKIP:
{
	skip 'the installation cannot be changed', 6 unless $owned;
	my $node = new_server('uninstall', slow_model => 1,
		conf => "shared_preload_libraries = 'gpt2'\n");

	is($node->safe_psql('postgres', $short) ne '', 1, 'uninstall: it generates');
	ok(-d $node->data_dir . '/base/pgsql_tmp_gpt2', 'uninstall: packs are there');
	$node->stop;
	rename $library, "$library.away" or die "could not rename $library: $!";
	my $tried = eval {
		is($node->start(fail_ok => 1), 0, 'uninstall: files first, and it does not start');
		like(slurp_file($node->logfile), qr/FATAL: .*could not access file "gpt2"/,
			'uninstall: the log names the file');
		$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
		is($node->start(fail_ok => 1), 1, 'uninstall: preload entry first, and it starts');
		$node->safe_psql('postgres', 'DROP EXTENSION gpt2');
		is($node->safe_psql('postgres', "SELECT count(*) FROM pg_proc WHERE proname ~ '^gpt_'"),
			0, 'uninstall: the extension can be dropped without the files');
		$node->stop;
		1;
	};
	my $error = $@;
	rename "$library.away", $library or die "could not rename $library: $!";
	die $error unless $tried;
}

done_testing();
