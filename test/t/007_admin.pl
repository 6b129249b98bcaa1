# Administration: stopping and purging, switching off and on, model roles in gpt2.json, saved
# counters, log lines of start and stop.
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
my $data = $node->data_dir;
my $packs = "$data/base/pgsql_tmp_gpt2";
my $counters = "$data/pg_stat/gpt2.stat";
my $short = slow_sql(20);
my $off = qr/ERROR:  55000: gpt2 is switched off\nHINT:  .*gpt2\.enabled/;

sub sql { return $node->safe_psql('postgres', @_) }

sub reload
{
	my ($conf) = @_;
	$node->append_conf('postgresql.conf', $conf);
	$node->reload;
	return;
}

sub log_count
{
	my ($pattern) = @_;
	my @hits = slurp_file($node->logfile) =~ /$pattern/g;
	return scalar @hits;
}

# ---- stopping ----

# Nothing runs: nothing is started, nothing fails.
sql('SELECT gpt_restart_engine(), gpt_stop_engine(), gpt_stop_engine(true), gpt_stat_reset()');
is(scalar(engines_of($node)), 0, 'nothing runs: still nothing');
is(sql('SELECT (SELECT count(*) FROM gpt_stat_requests), (SELECT count(*) FROM gpt_stat_usage),'
	  . ' (SELECT count(*) FROM gpt_stat_engine)'), '0|0|0', 'nothing runs: the views are empty');
is(scalar(engines_of($node)), 0, 'looking starts no engine');

my $right = sql($short);
my ($engine, $supervisor) = (engine_pid($node), supervisor_pid($node));
is(log_count(qr/LOG:  gpt2 engine started \(PID $engine\)/), 1, 'one line for its start');
my $started = time;
sql('SELECT gpt_stop_engine()');
elapsed_ok($started, 5, 'stopped');
ok(!process_exists($engine) && !process_exists($supervisor), 'stop: both have gone');
is(log_count(qr/LOG:  gpt2 engine stopped \(PID $engine\)/), 1, 'one line for its stop');
ok(scalar(glob "$packs/*.pack"), 'stop: packs are kept');
is(sql($short), $right, 'stop: the next call starts it again');

# A query that waits goes on with the next engine.
my $expected = sql(slow_sql(1500));
my $query = start_generating($node, slow_sql(1500));
ok(wait_generating($node), 'stop under a query: generating');
$engine = engine_pid($node);
sql('SELECT gpt_stop_engine()');
ok(!process_exists($engine), 'stop under a query: that engine has gone');
is(join('', (finish_generating($node, $query))[ 1, 2 ]), $expected, 'stop under a query: the same text');

# A restart under a query: the next engine goes on with it.
$query = start_generating($node, slow_sql(1500));
ok(wait_generating($node), 'restart under a query: generating');
$engine = engine_pid($node);
sql('SELECT gpt_restart_engine()');
ok(poll_until(sub { !process_exists($engine) }), 'restart under a query: that engine goes');
is(join('', (finish_generating($node, $query))[ 1, 2 ]), $expected, 'restart under a query: the same text');
is(log_count(qr/LOG:  gpt2 engine stopped \(PID $engine\): it was told to/), 1,
	'restart: one line for its stop');

# What was used, while the engine runs, and without it.
sql('SELECT gpt_stat_reset()');
sql("SELECT gpt_generate('Once', 3, n => 2, model => 'slow', temperature => 1)");
my $used = 'SELECT role = current_user, database, model, calls, sequences, prompt_tokens,'
  . ' completion_tokens, errors, cancelled FROM gpt_stat_usage';
is(sql($used), 't|postgres|slow|1|2|4|6|0|0', 'usage: counted');
is(sql("SELECT model, weight_format, steps > 0, completion_tokens > 0, running, queued"
		  . ' FROM gpt_stat_engine'), 'slow|f32|t|t|0|0', 'engine: at work');
sql('SELECT gpt_stop_engine()');
is(sql($used), 't|postgres|slow|1|2|4|6|0|0', 'usage: saved when the engine ends');
sql($short);
is(sql("SELECT calls FROM gpt_stat_usage"), 2, 'usage: goes on in the next engine');
is(sql("SELECT cost, price_per_million_tokens IS NULL FROM gpt_stat_usage"), '0|t',
	'without gpt2.price_per_hour no price is known');
$query = start_query($node, endless_sql());
ok(poll_sql($node, "SELECT count(*) FROM gpt_stat_requests WHERE state = 'decode' AND"
	  . " usename = current_user AND datname = 'postgres' AND model = 'slow' AND max_len = 7000"
	  . ' AND prompt_tokens = 4 AND generated_tokens > 0 AND queued_at <= started_at'
	  . ' AND started_at <= clock_timestamp()', 1), 'requests: one at work');
kill_query($query, $node);
ok(poll_sql($node, 'SELECT count(*) FROM gpt_stat_requests', 0), 'requests: gone with its client');

# purge: our files go, those of others stay.
my %foreign = map { $_ => 1 } ('notes.txt', 'x.pack', 'x-f32-0123.pack',
	'x-f99-0123456789abcdef.pack', '-f32-0123456789abcdef.pack', 'x-f32-0123456789abcdef.pack.1.tmp');
my %ours = map { $_ => 1 } ('x-f32-0123456789abcdef.pack', 'x-y-q8-0123456789abcdef.pack',
	'x-f32-0123456789abcdef.pack.12.3.tmp');
append_to_file("$packs/$_", 'x') for keys %foreign, keys %ours;
my $hidden = "$packs/.x-f32-0123456789abcdef.pack";
append_to_file($hidden, 'x');
symlink 'notes.txt', "$packs/link-f32-0123456789abcdef.pack" or die "could not link: $!";
append_to_file($counters, 'x');
sql('SELECT gpt_stop_engine(purge => true)');
is(join(' ', sort map { s{.*/}{}r } grep { !-d } glob "$packs/*"),
	join(' ', sort keys %foreign, 'link-f32-0123456789abcdef.pack'),
	'purge: packs have gone, nothing else');
ok(unlink($hidden), 'purge: no file with a hidden name');
ok(!-e $counters, 'purge: counters have gone');
unlink map { "$packs/$_" } keys %foreign, 'link-f32-0123456789abcdef.pack';
is(sql($short), $right, 'purge: packed again');

# ---- switched off and on ----

my $session = open_session($node);
like(ask($session, "$short;"), qr/^$right$/, 'off: a session that is connected');
$query = start_query($node, endless_sql(), 'SELECT 1');
ok(wait_generating($node), 'off: generating');
$engine = engine_pid($node);
$supervisor = supervisor_pid($node);
$started = time;
reload("gpt2.enabled = off\n");
ok(poll_until(sub { !process_exists($engine) }), 'off: the engine ends');
elapsed_ok($started, 5, 'off: ended');
my (undef, $out, $err) = finish_query($query);
like($err, qr/ERROR:  (57014|55000): gpt2 is switched off/, 'off: the running request ends');
is($out, '1', 'off: its session is good');
like(ask($session, "$short;"), $off, 'off: a connected session is refused');
like((finish_query(start_query($node, $short)))[2], $off, 'off: a new one too');
is(sql('SELECT engine_pid IS NULL FROM gpt_info()'), 't', 'off: gpt_info has no engine');
is(scalar(engines_of($node)), 0, 'off: no engine');
is(supervisor_pid($node), $supervisor, 'off: the supervisor stays');
is(log_count(qr/engine stopped \(PID $engine\): gpt2\.enabled is off/), 1, 'off: one line');
sql('SELECT gpt_stop_engine()');
like((finish_query(start_query($node, $short)))[2], $off, 'off: another supervisor refuses too');
is(scalar(engines_of($node)), 0, 'off: it starts no engine');

# On again: nobody needs it yet, looking does not count.
reload("gpt2.enabled = on\nwork_mem = '7MB'\n");
ok(poll_sql($node, 'SHOW work_mem', '7MB'), 'on: read');
is(sql('SELECT engine_pid IS NULL FROM gpt_info()'), 't', 'on: looking starts no engine');
is(sql('SELECT count(*) FROM gpt_stat_engine'), 0, 'on: nor does another view');
is(scalar(engines_of($node)), 0, 'on: no engine before it is needed');
ok(poll_until(sub { ask($session, "$short;") eq $right }), 'on: it works again');
is(scalar(engines_of($node)), 1, 'on: one engine');

# Idle: the engine ends, looking does not bring it back, a call does.
$engine = engine_pid($node);
reload("gpt2.engine_idle_timeout = 1\n");
ok(poll_until(sub { !process_exists($engine) }), 'idle: the engine ends');
ok(poll_until(sub { log_count(qr/engine stopped \(PID $engine\): nobody has needed it/) == 1 }),
	'idle: one line');
is(sql('SELECT (SELECT engine_pid IS NULL FROM gpt_info()), (SELECT count(*) FROM gpt_stat_engine),'
	  . " (SELECT state FROM gpt_models WHERE name = 'slow')"), 't|0|on disk', 'idle: looking');
is(scalar(engines_of($node)), 0, 'idle: looking starts no engine');
is(ask($session, "$short;"), $right, 'idle: a call in a connected session does');
reload("gpt2.engine_idle_timeout = 0\nwork_mem = '8MB'\n");
ok(poll_sql($node, 'SHOW work_mem', '8MB'), 'idle: no longer');

# ---- model roles ----

my $file = "$data/gpt2_models/slow/gpt2.json";
sql('CREATE ROLE hr; CREATE ROLE boss; CREATE ROLE ann LOGIN IN ROLE hr; CREATE ROLE bob LOGIN');

# (output, errors) of statements as a role
sub as_role
{
	my ($role, $sql) = @_;
	my (undef, $rows, $errors) = $node->psql('postgres', "SET ROLE $role; $sql");
	return "$rows$errors";
}

my $look = "SELECT count(*) FROM gpt_models WHERE name = 'slow'";
is(as_role('bob', $look), 1, 'roles: everybody sees the model');
append_to_file($file, '{"templates": {"summarize": "{input}' . "\xc3\xa9" . '"}, "stop": {}}');
chmod 0640, $file;
sql($short);	# whether or not the engine has ended in between
$engine = engine_pid($node);
sql("SELECT gpt_unload_model('slow')");
sql($short);
is(sql("SELECT state FROM gpt_models WHERE name = 'slow'"), 'loaded', 'roles: it is loaded');
my $content = "SELECT content_hash FROM gpt_models WHERE name = 'slow'";
my $hash = sql($content);
my ($pack) = glob "$data/base/pgsql_tmp_gpt2/slow-*.pack";
my $inode = (stat $pack)[1];
sql("SELECT gpt_grant_model('slow', 'hr')");
is(sql("SELECT state FROM gpt_models WHERE name = 'slow'"), 'on disk', 'roles: it is unloaded');
is(engine_pid($node), $engine, 'roles: by the same engine');
is(as_role($_->[0], $look), $_->[1], "roles: $_->[0] sees $_->[1]")
  for ['ann', 1], ['bob', 0], ['boss', 0];
is(sql($look), 1, 'roles: a superuser sees it');
like((finish_query(start_query($node, 'SET ROLE bob', $short)))[2], qr/ERROR:  42501/,
	'roles: refused to bob');
is(sql("SELECT state FROM gpt_models WHERE name = 'slow'"), 'on disk', 'roles: bob loads nothing');
is(as_role('ann', $short), $right, 'roles: ann uses it');
is(sql($content), $hash, 'roles: they are no part of its content');
is((stat $pack)[1], $inode, 'roles: it was not packed again');
for my $sql ($short, "SELECT gpt_count_tokens('a', 'slow')", "SELECT gpt_detokenize('{1}', 'slow')")
{
	like((finish_query(start_query($node, 'SET ROLE bob', $sql)))[2], qr/ERROR:  42501/,
		"roles: refused to bob: $sql");
}
is(as_role('bob', $look), 0, 'roles: hidden from bob while it is loaded');
sql("SELECT gpt_grant_model('slow', 'boss'), gpt_grant_model('slow', 'hr')");
is(sql("SELECT pg_read_file('$file')::jsonb"),
	'{"stop": {}, "roles": ["hr", "boss"], "templates": {"summarize": "{input}é"}}',
	'roles: other keys are kept');
is((stat $file)[2] & 0777, 0640, 'roles: the permissions are kept');
is(join(' ', glob "$data/gpt2_models/slow/*.tmp"), '', 'roles: no temporary file is left');
sql("SELECT gpt_revoke_model('slow', 'hr'), gpt_revoke_model('slow', 'boss')");
like(slurp_file($file), qr/"roles": \[\s*\]/, 'roles: none is left');
is(as_role('ann', $look), 0, 'roles: none is left: nobody');
is(sql($look), 1, 'roles: none is left: but superusers');
is(sql($short), $right, 'roles: and it works for them');
is(as_role('ann', $look), 0, 'roles: hidden from others while it is loaded');
like(as_role('ann', $short), qr/ERROR: .*slow/, 'roles: others cannot use it');
sql("SELECT gpt_grant_model('slow', 'public')");
unlike(slurp_file($file), qr/roles/, 'roles: public removes the key');
is(as_role('bob', $look), 1, 'roles: public: everybody');
sql("SELECT gpt_revoke_model('slow', 'public')");
is(as_role('bob', $look), 0, 'roles: revoked from public');
sql("SELECT gpt_grant_model('slow', 'public')");

# Changes at once are all there at the end.
sql(join ';', map { "CREATE ROLE many$_" } 1 .. 12);
my @many = map { start_query($node, "SELECT gpt_grant_model('slow', 'many$_')") } 1 .. 12;
finish_query($_) for @many;
is(sql("SELECT jsonb_array_length(pg_read_file('$file')::jsonb -> 'roles')"), 12,
	'roles: of changes at once none is lost');

# What cannot be understood is for nobody but superusers, and is not overwritten.
for my $text ('{"roles": "hr"}', '{"roles": [1]}', '{"roles": [["hr"]]}', '{"roles": [', '[]',
	"\xff")
{
	unlink $file;
	append_to_file($file, $text);
	is(as_role('ann', $look), 0, "roles: $text is for nobody");
	is(sql("SELECT error IS NOT NULL FROM gpt_models WHERE name = 'slow' AND state = 'on disk'"),
		't', "roles: $text is shown as an error");
	like((finish_query(start_query($node, "SELECT gpt_grant_model('slow', 'hr')")))[2],
		qr/ERROR:  22032: cannot change the roles of model "slow"\nDETAIL:  gpt2\.json/,
		"roles: $text is not overwritten");
	is(slurp_file($file), $text, "roles: $text is as before");
}
unlink $file;
symlink 'config.json', $file or die "could not link: $!";
like((finish_query(start_query($node, "SELECT gpt_grant_model('slow', 'hr')")))[2],
	qr/22032: .*\nDETAIL:  gpt2\.json is a symbolic link; copy the folder with cp -rL/,
	'roles: not through a link');
is(as_role('ann', $look), 0, 'roles: a link is for nobody');
unlink $file;

# In a database that lacks a character, it would be lost.
append_to_file($file, '{"stop": "' . "\xe4\xb8\xad" . '"}');
sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
$node->safe_psql('latin', 'CREATE EXTENSION gpt2');
like((finish_query(start_query($node, { db => 'latin' },
			"SELECT gpt_grant_model('slow', 'hr')")))[2],
	qr/ERROR:  22P05: .*encoding UTF8/s, 'roles: not where a character would be lost');
unlink $file;

chmod 0500, "$data/gpt2_models/slow";
SKIP:
{
	skip 'root may write everywhere', 1 if $> == 0;
	like((finish_query(start_query($node, "SELECT gpt_grant_model('slow', 'hr')")))[2],
		qr/ERROR:  42501: could not write to model folder .*\nHINT:  Let the server's user/,
		'roles: a folder that cannot be written');
}
chmod 0700, "$data/gpt2_models/slow";

# ---- saved counters ----

# FNV-1a of 64 bits.
sub checksum
{
	my ($bytes) = @_;
	no warnings 'portable';
	my $h = 0xCBF29CE484222325;

	use integer;
	$h = ($h ^ $_) * 0x100000001B3 for unpack 'C*', $bytes;
	no integer;
	return $h;
}

# A row as the engine sends it: month, role, database, model, 11 counters, cost.
sub usage_row
{
	my ($month, $role, $database, @counts) = @_;
	my $row = pack('L L L L/a* Q11 d', $month, $role, $database, 'demo', @counts);
	return pack('L/a*', $row);
}

sub save_counters
{
	my ($identifier, $timeline, $payload, $extra) = @_;
	unlink $counters;
	open my $out_file, '>:raw', $counters or die "could not open $counters: $!";
	print $out_file pack('L L Q L L q', 0x55325047, 1, $identifier, $timeline, length $payload,
		checksum($payload)), $payload, $extra || '';
	close $out_file;
	return;
}

my $identifier = sql('SELECT system_identifier FROM pg_control_system()');
my $database = sql("SELECT oid FROM pg_database WHERE datname = 'postgres'");
my %oid = map { $_ => sql("SELECT '$_'::regrole::oid") } ('ann', 'bob', 'hr');
my $payload = pack('L', 3)
  . usage_row(2026 * 12 + 10, $oid{ann}, $database, 4, 5, 600, 100, 400, 1, 2, 3, 1, 1500000,
	7200000000, 0.25)
  . usage_row(2025 * 12, $oid{bob}, 999999, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  . usage_row(2025 * 12 + 11, 999999, $database, 2, 2, 10, 0, 10, 0, 0, 0, 0, 0, 1000, 0.5);
my $usage = 'SELECT * FROM gpt_stat_usage ORDER BY month';
my $ann = '2026-11-01|ann|postgres|demo|4|5|600|100|400|1|2|3|1|00:00:01.5|02:00:00|0.25|250';
my $bob = '2025-01-01|bob||demo|1|1|0|0|0|0|0|0|0|00:00:00|00:00:00|0|';
my $gone = '2025-12-01||postgres|demo|2|2|10|0|10|0|0|0|0|00:00:00|00:00:00.001|0.5|25000';
my $count = 'SELECT count(*) FROM gpt_stat_usage';

sql('SELECT gpt_stop_engine()');
save_counters($identifier, 1, $payload);
is(sql($usage), "$bob\n$gone\n$ann", 'counters: read from the file');
is(as_role('ann', $usage), $ann, 'counters: ann sees her own');
is(as_role('bob', $usage), $bob, 'counters: bob sees his own');
is(as_role('hr', $usage), '', 'counters: a role sees nothing of its members');
sql('GRANT pg_read_all_stats TO boss; GRANT ann TO bob');
is(as_role('boss', $count), 3, 'counters: pg_read_all_stats sees all');
is(as_role('bob', $count), 2, 'counters: bob sees those of a role that he is a member of');
is(scalar(engines_of($node)), 0, 'counters: looking starts no engine');
for my $wrong ([ 'another cluster', $identifier + 1, 1 ], [ 'another timeline', $identifier, 2 ])
{
	save_counters(@$wrong[ 1, 2 ], $payload);
	is(sql($count), 0, "counters: of $wrong->[0]: none");
}
save_counters($identifier, 1, $payload, 'x');
is(sql($count), 0, 'counters: of another length: none');
save_counters($identifier, 1, $payload);
truncate $counters, 60 or die "could not truncate: $!";
is(sql($count), 0, 'counters: cut short: none');
save_counters($identifier, 1, pack('L', 2) . usage_row((1) x 3, (0) x 12));
like((finish_query(start_query($node, $count)))[2], qr/ERROR:  XX000: malformed answer/,
	'counters: a row is missing');
unlink $counters;
symlink 'pgstat.stat', $counters or die "could not link: $!";
like((finish_query(start_query($node, $count)))[2],
	qr/ERROR:  58030: could not read the saved usage counters\nDETAIL:  .*symbolic link\nHINT/,
	'counters: not through a link');
sql('SELECT gpt_stat_reset()');
ok(!-l $counters, 'counters: reset removes it');
is(sql($count), 0, 'counters: none after a reset');
is(scalar(engines_of($node)), 0, 'counters: reset starts no engine');

# A standby reads those of the timeline that it replays.
$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 4\n");
$node->append_conf('pg_hba.conf', "local replication all trust\n");
$node->restart;
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$counters = $standby->data_dir . '/pg_stat/gpt2.stat';
save_counters($identifier, 1, $payload);
is($standby->safe_psql('postgres', $count), 3, 'standby: its counters');
is($standby->safe_psql('postgres', $short), $right, 'standby: it generates');
$standby->safe_psql('postgres', 'SELECT gpt_stop_engine()');
save_counters($identifier, 1, $payload);
$standby->promote;
is($standby->safe_psql('postgres', $count), 0, 'standby: none on the next timeline');
save_counters($identifier, 2, $payload);
is($standby->safe_psql('postgres', $count), 3, 'standby: those of the next timeline');
$standby->stop;

$node->stop;
done_testing();
