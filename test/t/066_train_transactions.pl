# gpt_train and gpt_finetune as statements: the snapshot that they hold and do not, blocks with an
# exception, a query that trains, rows that are large.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', conf => "gpt2.train_threads = 1\n");
my $data = $node->data_dir;
my $small = "tokenizer => 'char', n_layer => 1, n_head => 2, n_embd => 32, context => 32, "
  . 'batch_tokens => 128, learning_rate => 0.01';

sub sql { return $node->safe_psql('postgres', @_) }

# Errors of a statement.
sub errors_of
{
	return (finish_query(start_query($node, '\set VERBOSITY verbose', @_)))[2];
}

my $lines = "CREATE TABLE lines AS
	SELECT i AS id, i || ' plus ' || i % 7 AS t FROM generate_series(1, 100) AS i";
sql($lines);

# ---- no snapshot is kept while it trains, neither after the rows were read nor without reading them

# The call that goes on for long: NOTICEs that tell how far it is come only after ten seconds.
sub holds_none
{
	my ($db, $what) = @_;
	my $call = "CALL gpt_train('endless', 'SELECT t FROM lines', $small, steps => 1000000)";
	my $query = start_query($node, { db => $db }, $call);
	my $progress = "FROM gpt_stat_progress_train WHERE model = 'endless' AND datname = '$db'";

	ok(poll_sql($node, "SELECT count(*) > 0 $progress AND state = 'running' AND phase = 'training'"),
		"$db, $what: it trains");
	# The process that trains may be faster than the end of the transaction.
	ok(poll_sql($node, "SELECT count(*), count(backend_xmin) FROM pg_stat_activity
		WHERE pid IN (SELECT pid $progress)", '1|0'), "$db, $what: no snapshot is held");
	is(sql("SELECT count(*) FROM pg_locks WHERE pid IN (SELECT pid $progress) AND locktype = 'relation'"),
		0, "$db, $what: nor the lock of a table");
	sql("SELECT pg_cancel_backend(pid) $progress");
	finish_query($query);
	return;
}

sql('CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LC_COLLATE "C" LC_CTYPE "C"');
$node->safe_psql('latin', "CREATE EXTENSION gpt2; $lines");
for my $db ('postgres', 'latin')
{
	holds_none($db, $_) for 'from the beginning', 'going on';
}

# ---- names are UTF-8 in the file system, whatever the database has

my $cafe = "U&'caf\\00E9'";
my $in_latin = sub { return (finish_query(start_query($node, { db => 'latin' }, $_[0])))[2] };
unlike($in_latin->("CALL gpt_train($cafe, 'SELECT t FROM lines', $small, steps => 2)"), qr/ERROR/,
	'a name that is not ASCII');
like($in_latin->("CALL gpt_train($cafe, 'SELECT t FROM lines', $small, steps => 2)"),
	qr/42710: model .* exists already/, 'is found before anything is done');
unlike($in_latin->("CALL gpt_finetune($cafe, 'SELECT t FROM lines', 'tea', steps => 2)"), qr/ERROR/,
	'and as a base');
like((finish_query(start_query($node, { db => 'latin' }, 'CREATE ROLE stranger', 'SET ROLE stranger',
	"SELECT * FROM gpt_check_model($cafe)")))[2], qr/42501: permission denied for model/,
	'and by who asks whether it is whole');
my $long_role = "repeat(U&'\\00E9', 40)";
like((finish_query(start_query($node, { db => 'latin' },
	"DO \$\$ BEGIN EXECUTE format('CREATE ROLE %I', $long_role); END \$\$",
	"SELECT gpt_reassign_model($cafe, $long_role)", "SELECT set_config('role', $long_role, false) IS NULL",
	"SELECT length(gpt_generate('1 ', 2, model => $cafe)) >= 0")))[1], qr/f\nt$/,
	'an owner whose name is longer in UTF-8');

# ---- where a transaction cannot be ended, it trains nevertheless

my $short = "$small, steps => 2";
unlike(errors_of(<<SQL), qr/ERROR/, 'in a block with an exception clause');
DO \$\$
BEGIN
	CALL gpt_train('block', 'SELECT t FROM lines', $short);
EXCEPTION WHEN division_by_zero THEN
	RAISE 'no';
END \$\$
SQL
ok(-f "$data/gpt2_models/block/config.json", 'a model is made there');

# ---- a training inside of another's query

sql(<<SQL);
CREATE FUNCTION train_again() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
	CALL gpt_train('inner', 'SELECT t FROM lines', $short);
	RETURN 'x';
END \$\$
SQL
like(errors_of("CALL gpt_train('outer', 'SELECT train_again()', $short)"),
	qr/55000: the query of a training cannot start another one/, 'no training in a training');
unlike(errors_of("CALL gpt_train('next', 'SELECT t FROM lines', $short)"), qr/ERROR/,
	'the next one is not hindered');

# ---- a model's answers train another

unlike(errors_of("CALL gpt_train('pupil', \$\$SELECT t, gpt_generate(t, 4, model => 'next') FROM lines
	LIMIT 20\$\$, $short)"), qr/ERROR/, 'the query calls a model');

# ---- a query that takes long does not go on for a process that has ended

sub trainer_pid
{
	return (grep { /\S/ } split /\n/, `pgrep -P @{[ supervisor_pid($node) ]} gpt2_train`)[0];
}

my $query = start_query($node, "CALL gpt_train('slow', 'SELECT t FROM lines, generate_series(1, 10000)
	WHERE pg_sleep(0.01) IS NOT NULL', $short)");
ok(poll_sql($node, "SELECT count(*) > 0 FROM gpt_stat_progress_train
	WHERE model = 'slow' AND phase = 'reading rows' AND state = 'running'"), 'it reads rows');
kill 'KILL', trainer_pid();
like((finish_query($query))[2], qr/58000: the process that trains has ended/,
	'a query ends soon after the process that its rows are for');

# ---- a model that is in use is replaced

my $hash = "SELECT content_hash FROM gpt_models WHERE name = 'next'";
my $before = sql($hash);
isnt($before, '', 'a model is loaded');
unlike(errors_of("CALL gpt_train('next', 'SELECT t FROM lines', $short, seed => 2, replace => true)"),
	qr/ERROR/, 'and replaced');
ok(poll_until(sub {
	sql("SELECT gpt_generate('x', 1, model => 'next')");
	return sql($hash) ne $before;
}), 'the engine goes over to the new one');

# ---- the supervisor's end is the training's, and the next one goes on

my $long = "CALL gpt_train('long', 'SELECT t FROM lines', $small, steps => 1000000)";
my $progress = "FROM gpt_stat_progress_train WHERE model = 'long'";
$query = start_query($node, $long);
ok(poll_sql($node, "SELECT count(*) > 0 $progress AND step > 5"), 'it trains');
my $trainer = trainer_pid();
my $first = sql("SELECT pid $progress");
sql("SELECT pg_terminate_backend(@{[ supervisor_pid($node) ]})");
like((finish_query($query))[2], qr/57014: the training was told to end.*|58000: the process that trains/s,
	'a training ends with its supervisor');
ok(poll_until(sub { !process_exists($trainer) }), 'so does its process');
$query = start_query($node, $long);
# What the first one has said of itself stands there until the second one says more.
ok(poll_sql($node, "SELECT count(*) > 0 $progress AND pid <> $first AND phase = 'training'"), 'it goes on');
sql("SELECT pg_cancel_backend(pid) $progress");
like((finish_query($query))[2], qr/going on after step/, 'from where it was');

# ---- the socket

unlink "$data/pg_stat_tmp/gpt2_train.sock" or die "could not remove: $!";
unlike(errors_of("CALL gpt_train('again', 'SELECT t FROM lines', $short)"), qr/ERROR/,
	'a socket that was removed is made again');

# ---- what would be without effect is refused

like(errors_of("CALL gpt_finetune('next', 'SELECT t FROM lines', 'no', lora_alpha => 8)"),
	qr/22023: lora_alpha needs lora_rank/, 'lora_alpha without an adapter');
like(errors_of("CALL gpt_train('no', 'SELECT t FROM lines', $short, patience => 2, eval_fraction => 0)"),
	qr/22023: patience needs rows that are held out/, 'patience without rows that are held out');
like(errors_of("CALL gpt_train('few', 'SELECT t FROM lines LIMIT 10', $short, patience => 2)"),
	qr/NOTICE: .*no rows are held out, so that patience has no effect/, 'nor with too few rows');
like(errors_of("CALL gpt_train('no', 'SELECT t FROM lines', $small, steps => 10000000, eval_every => 2)"),
	qr/22023: eval_every must be at least 100 for 10000000 steps/, 'a curve of millions of points');

# ---- large rows: the memory is that of a row

sql("CREATE TABLE large AS SELECT repeat(i || ' large ', 2000000) AS t FROM generate_series(1, 12) AS i");
my $peak = $node->safe_psql('postgres', <<SQL);
BEGIN;
CALL gpt_train('large', 'SELECT t FROM large', tokenizer => 'byte', n_layer => 1, n_head => 1,
	n_embd => 2, context => 2, steps => 1, batch_tokens => 2, eval_fraction => 0);
SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\\s*([0-9]+) kB')::int / 1024;
SQL
cmp_ok($peak, '<', 200, 'rows of 16 MB take no 12 times that');
note "peak $peak MB";

done_testing();
