# No room for a packed file: 53100 before the work, or in the middle of it; nothing else suffers,
# and what was begun is removed.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $demo = "SELECT gpt_count_tokens('The printer', 'demo') > 0";
my $short = slow_sql(20);

sub packs
{
	my ($directory) = @_;
	opendir my $dir, $directory or return;
	my @files = sort grep { !/^\./ } readdir $dir;
	closedir $dir;
	return @files;
}

# What a server without room for "slow" must do: `what` is refused, the rest works.
sub check_refused
{
	my ($node, $what, $detail) = @_;
	my ($rc, $out, $err) = finish_query(start_query($node, $short, $demo));
	my $engine = engine_pid($node);

	like($err, qr/ERROR:  53100: not enough disk space in ".*" to pack the model/, "$what: 53100");
	like($err, $detail, "$what: the figures");
	like($err, qr/HINT:  Free some space, or let gpt2.pack_directory name/, "$what: a hint");
	is($out, 't', "$what: another model in the same session");
	my @errors = map { (finish_query($_))[2] } map { start_query($node, $short) } (1 .. 4);
	is(scalar(grep { /ERROR:  53100/ } @errors), 4, "$what: everybody is told");
	is(engine_pid($node), $engine, "$what: the same engine");
	return;
}

# A file system of 64 MB, filled by a file: it can only be made where an ordinary user may make a
# namespace of its own.
SKIP:
{
	my $mount = PostgreSQL::Test::Utils::tempdir();
	my @namespace = ('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c');
	my $tmpfs = "mount -t tmpfs -o size=64m,mode=777 gpt2 '$mount'";
	skip 'no mount namespace for an ordinary user', 8
	  if system("@namespace[0..5] \"$tmpfs\" >/dev/null 2>&1") != 0;

	my $node = PostgreSQL::Test::Cluster->new('full');
	$node->init;
	$node->append_conf('postgresql.conf',
		"gpt2.pack_directory = '$mount/packs'\ngpt2.weight_format = 'f32'\n");
	add_slow_model($node);
	# Root of the namespace mounts; PostgreSQL wants to be an ordinary user again.
	my $start = sprintf q(%s && exec unshare --user --map-user=%d --map-group=%d)
	  . q( pg_ctl -w -D '%s' -l '%s' -o '--cluster-name=full' start), $tmpfs, $<, $( + 0,
	  $node->data_dir, $node->logfile;
	system_or_bail(@namespace, $start);
	$node->_update_pid(1);

	$node->safe_psql('postgres', 'CREATE EXTENSION gpt2');
	my $ballast = "COPY (SELECT repeat('x', 1000000) FROM generate_series(1, %d))"
	  . " TO '$mount/ballast'";
	$node->safe_psql('postgres', sprintf($ballast, 50));
	check_refused($node, 'full', qr/DETAIL:  The packed file needs \d+ bytes; \d+ are free/);
	$node->safe_psql('postgres', sprintf($ballast, 0));
	my ($rc, $out, $err) = finish_query(start_query($node, $short));
	is($rc, 0, 'room again: the model works without a restart') or diag($err);
	is($node->safe_psql('postgres',
			"SELECT count(*) FROM pg_ls_dir('$mount/packs') AS f WHERE f ~ '\\.tmp'"),
		0, 'full: no temporary file is left');
	$node->stop;
}

# The reserve: from 64 MB on, 2 x max_wal_size stays free for the server.
{
	my $node = new_server('reserve', conf => "max_wal_size = '1000TB'\n");
	my $folder = $node->data_dir . '/gpt2_models/large';

	mkdir $node->data_dir . '/gpt2_models';
	system_or_bail(engine_program(), 'synth', $folder, '--layer', 2, '--embd', 896,
		'--head', 14, '--ctx', 64, '--vocab', 257);
	my ($rc, $out, $err) = finish_query(start_query($node,
			"SELECT gpt_load_model('large')", $demo));
	like($err, qr/ERROR:  53100: .*\nDETAIL:  .*; \d+ are free, and \d+ must stay free/,
		'reserve: 53100');
	is($out, 't', 'reserve: a small model is packed all the same');
	is(scalar(grep { /large/ } packs($node->data_dir . '/base/pgsql_tmp_gpt2')), 0,
		'reserve: nothing is left');

	# The setting is taken over by the running engine.
	$node->append_conf('postgresql.conf', "max_wal_size = '100MB'\n");
	$node->reload;
	ok(poll_until(sub {
				($rc, $out, $err) = finish_query(start_query($node,
						"SELECT gpt_load_model('large')"));
				return $rc == 0;
			}), 'reserve: packed when it may') or diag($err);
	$node->stop;
}

# The file cannot become so large: the engine gets the error of the write, not a deadly signal.
{
	my $node = PostgreSQL::Test::Cluster->new('limit');

	# The server's own files (WAL segments of 16 MB) stay below it, "slow" does not.
	$node->init;
	$node->append_conf('postgresql.conf', "gpt2.weight_format = 'f32'\n");
	add_slow_model($node);
	system_or_bail('sh', '-c', sprintf(q(ulimit -f 36000; exec pg_ctl -w -D '%s' -l '%s')
			  . q( -o '--cluster-name=limit' start), $node->data_dir, $node->logfile));
	$node->_update_pid(1);
	$node->safe_psql('postgres', 'CREATE EXTENSION gpt2');
	check_refused($node, 'limit', qr/DETAIL:  The packed file needs \d+ bytes/);
	is(join(' ', grep { /slow/ } packs($node->data_dir . '/base/pgsql_tmp_gpt2')), '',
		'limit: nothing is left');
	$node->stop;
}

done_testing();
