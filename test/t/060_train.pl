# gpt_train and gpt_finetune: a model that is made of rows, whose it is, how it is stopped and gone
# on with, and what is refused.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $program = engine_program() =~ s/gpt2_engine$/gpt2_train/r;

my $node = new_server('main', conf => "gpt2.train_threads = 1\n");
my $data = $node->data_dir;
my $models = "$data/gpt2_models";
my $spools = "$data/base/pgsql_tmp_gpt2/train";
my $small = "tokenizer => 'char', n_layer => 1, n_head => 2, n_embd => 32, context => 32, "
  . 'batch_tokens => 128, learning_rate => 0.01';

sub sql { return $node->safe_psql('postgres', @_) }

# Return code, output, errors of statements, as a role.
sub try_as
{
	my ($role, @sql) = @_;
	return finish_query(start_query($node, '\set VERBOSITY verbose', "SET ROLE $role", @sql));
}

sub fails_like
{
	my ($role, $call, $pattern, $what) = @_;
	my (undef, undef, $err) = try_as($role, $call);
	like($err, $pattern, $what);
	return;
}

# What a training leaves behind when it is over.
sub spools { return scalar grep { !/\/\.+$/ } glob "$spools/*" }

sub slurp_made { return slurp_file("$models/$_[0]/$_[1]") }

sql(<<'SQL');
CREATE ROLE trainer LOGIN;
CREATE ROLE other LOGIN;
CREATE TABLE lines (id int, t text);
INSERT INTO lines SELECT i, i || ' plus ' || i % 7 || ' is ' || i + i % 7 FROM generate_series(1, 300) AS i;
INSERT INTO lines VALUES (301, NULL), (302, ''), (303, repeat('long row ', 40));
CREATE TABLE secrets (t text);
GRANT SELECT ON lines TO trainer, other;
GRANT EXECUTE ON PROCEDURE gpt_train, gpt_finetune TO trainer, other;
SQL

# ---- a model is made

my $call = "CALL gpt_train('sums', 'SELECT t FROM lines ORDER BY id', $small, steps => 60)";
my ($rc, undef, $err) = try_as('trainer', $call);
is($rc, 0, 'trained') or diag $err;
like($err, qr/NOTICE:.* 1 rows are NULL and are left out/, 'NULLs are counted');
like($err, qr/NOTICE:.* 302 rows, 15 held out; \d+ tokens to learn/, 'rows are counted');
like($err, qr/NOTICE:.* 1 rows are too short/, 'empty rows are counted');
like($err, qr/NOTICE:.* 1 rows are longer than 32 tokens and are cut/, 'long rows are counted');
is(spools(), 0, 'nothing is left of the training');
ok(-f "$models/sums/$_", "the folder has $_")
  for qw(config.json model.safetensors tokenizer.json tokenizer_config.json gpt2.json README.md
  training_log.csv);
like(slurp_made('sums', 'README.md'), qr/SELECT t FROM lines ORDER BY id/, 'the README has the query');
like(slurp_made('sums', 'README.md'), qr/Held-out loss of these weights: \d/, 'and losses');
my $log = sql("SELECT count(*), min(step), max(step), bool_and(loss > 0),
	count(held_out_loss), (array_agg(loss ORDER BY step))[1] > (array_agg(loss ORDER BY step DESC))[1]
	FROM gpt_training_log('sums')");
is($log, '60|1|60|t|20|t', 'the log has the curve, and the loss falls');

# ---- whose it is

is((try_as('trainer', "SELECT length(gpt_generate('1 plus', 8, model => 'sums')) > 0"))[1], 't',
	'its owner can use it');
fails_like('other', "SELECT gpt_generate('1 plus', 8, model => 'sums')",
	qr/42501: permission denied for model "sums"/, 'others cannot');
fails_like('other', "SELECT * FROM gpt_training_log('sums')", qr/42501/, 'nor see its log');
fails_like('other', "SELECT gpt_grant_model('sums', 'other')",
	qr/42501: must be superuser or owner of model "sums"/, 'nor grant it');
fails_like('other', "CALL gpt_finetune('sums', 'SELECT t FROM lines', 'mine')",
	qr/42501: permission denied for model "sums"/, 'nor go on from it');
fails_like('other', "CALL gpt_train('sums', 'SELECT t FROM lines', $small, replace => true)",
	qr/42501: must be superuser or owner of model "sums"/, 'nor replace it');
is((try_as('trainer', "SELECT gpt_grant_model('sums', 'other')"))[0], 0, 'its owner grants it');
is((try_as('other', "SELECT length(gpt_generate('1 plus', 8, model => 'sums')) > 0"))[1], 't',
	'then others can');

# ---- the name

fails_like('trainer', $call, qr/42710: model "sums" exists already/, 'the name is taken');
fails_like('trainer', "CALL gpt_train('demo', 'SELECT t FROM lines', $small, replace => true)",
	qr/42710: model "demo" exists already/, 'the installation\'s models are not replaced');
fails_like('trainer', "CALL gpt_train('$_', 'SELECT t FROM lines')", qr/42602/, "bad name \"$_\"")
  for '../x', '.x', '';
my $before = slurp_made('sums', 'model.safetensors');
($rc, undef, $err) = try_as('trainer', $call =~ s/steps => 60/steps => 20, replace => true/r);
is($rc, 0, 'its owner replaces it') or diag $err;
isnt(slurp_made('sums', 'model.safetensors'), $before, 'with other weights');
is(spools(), 0, 'the old one is gone');

# ---- the same again

sql('DROP TABLE IF EXISTS copy');
($rc, undef, $err) = try_as('trainer', $call =~ s/'sums'/'again'/r);
is(slurp_made('again', 'model.safetensors'), $before, 'the same rows and settings, the same bits');

# ---- prompts and completions, from a model that is there

for my $rank (0, 4)
{
	($rc, undef, $err) = try_as('trainer',
		"CALL gpt_finetune('again', \$\$SELECT 'sum ' || id || ': ', t FROM lines\$\$, 'tuned$rank', "
		  . "lora_rank => $rank, steps => 10, batch_tokens => 128)");
	is($rc, 0, "fine-tuned with lora_rank $rank") or diag $err;
	is((try_as('trainer', "SELECT length(gpt_generate('1 plus', 8, model => 'tuned$rank')) > 0"))[1],
		't', 'the engine loads it');
	isnt(slurp_made("tuned$rank", 'model.safetensors'), $before, 'its weights are others');
}

# ---- tokenizers

for my $tokenizer ("'byte'", "'bpe', vocab_size => 300")
{
	my $name = $tokenizer =~ /byte/ ? 'bytes' : 'pairs';
	($rc, undef, $err) = try_as('trainer', "CALL gpt_train('$name', 'SELECT t FROM lines', "
		  . "$small, steps => 5)" =~ s/'char'/$tokenizer/r);
	is($rc, 0, "trained with tokenizer $name") or diag $err;
	is((try_as('trainer', "SELECT gpt_detokenize(gpt_tokenize('1 plus x', '$name'), '$name')"))[1],
		'1 plus x', 'and it gives texts back');
}

# ---- what is refused

my $made = sub { return "CALL gpt_train('no', $_[0])" };
my @bad = (
	["'SELECT t FROM secrets'", qr/42501: permission denied for table secrets/, 'no right to read'],
	["'SELECT id FROM lines'", qr/42804: column "id" of the query has type integer/, 'no text'],
	["'SELECT t, t, t FROM lines'", qr/42804: .*one or two columns, not 3/, 'three columns'],
	["'DELETE FROM lines'", qr/22023: .*returns rows/, 'no SELECT'],
	["'SELECT 1; SELECT 2'", qr/22023: .*returns rows/, 'two statements'],
	["'SELEC'", qr/42601: syntax error/, 'a syntax error'],
	["'SELECT t FROM lines WHERE false'", qr/22023: the query has no rows to learn from/, 'no rows'],
	['NULL', qr/22023: query must not be null/, 'no query'],
	["'SELECT t FROM lines', tokenizer => 'x'", qr/22023: tokenizer "x" is unknown/, 'tokenizer'],
	["'SELECT t FROM lines', size => 'x'", qr/22023: size "x" is unknown/, 'size'],
	["'SELECT t FROM lines', optimizer => 'x'", qr/22023: optimizer "x" is unknown/, 'optimizer'],
	["'SELECT t FROM lines', schedule => 'x'", qr/22023: schedule "x" is unknown/, 'schedule'],
	["'SELECT t FROM lines', n_head => 5", qr/22023: n_embd must be a multiple/, 'n_head'],
	["'SELECT t FROM lines', steps => -1", qr/22023: steps must not be negative/, 'steps'],
	["'SELECT t FROM lines', steps => 1, epochs => 1", qr/22023: steps and epochs/, 'both lengths'],
	["'SELECT t FROM lines', learning_rate => 'NaN'", qr/22023: learning_rate/, 'learning_rate'],
	["'SELECT t FROM lines', dropout => 1", qr/22023: dropout/, 'dropout'],
	["'SELECT t FROM lines', eval_fraction => 0.9", qr/22023: eval_fraction/, 'eval_fraction'],
	["'SELECT t FROM lines', threads => 2", qr/22023: threads must be between 1 and 1/, 'threads'],
	["'SELECT t FROM lines', vocab_size => 10", qr/22023: vocab_size/, 'vocab_size'],
	["'SELECT t FROM lines', vocab_size => 300000", qr/22023: vocab_size/, 'a large vocabulary'],
	["'SELECT t FROM lines', n_layer => 64, n_embd => 4096, n_head => 4, steps => 1",
		qr/53200: training a model of .* takes .* GB/, 'a model that is too large'],
	["'SELECT t FROM lines', n_embd => 32, n_layer => 1, tokenizer => 'char', steps => 200, "
		  . "eval_fraction => 0, optimizer => 'sgd', learning_rate => 100, weight_decay => 90, "
		  . 'grad_clip => 0, warmup_steps => 0',
		qr/22023: the loss of step \d+ is not a finite number/, 'a loss that is no number'],
);
fails_like('trainer', $made->($_->[0]), $_->[1], "refused: $_->[2]") for @bad;
fails_like('trainer', "CALL gpt_finetune('nobody', 'SELECT t FROM lines', 'no')",
	qr/42704: model "nobody" not found/, 'refused: an unknown base');
ok(!-e "$models/no", 'none of them left a model');
is(spools(), 0, 'nor rows');
sql('REVOKE EXECUTE ON PROCEDURE gpt_train FROM other');
fails_like('other', $made->("'SELECT t FROM lines'"),
	qr/42501: permission denied for procedure gpt_train/, 'refused: no EXECUTE');

# ---- what others see, and one at a time

my $progress = "FROM gpt_stat_progress_train WHERE model";
my $endless = "CALL gpt_train('endless', 'SELECT t FROM lines', $small, steps => 1000000)";
my $query = start_query($node, 'SET ROLE trainer', $endless);
ok(poll_sql($node, "SELECT count(*) > 0 $progress = 'endless' AND step > 5"), 'the view shows steps');
is(sql("SELECT model, usename, datname, state, phase, rows, steps, loss > 0,
	estimated_end > now() $progress = 'endless'"),
	'endless|trainer|postgres|running|training|302|1000000|t|t', 'and what is trained');
is((try_as('other', "SELECT step $progress = 'endless'"))[1], '', 'but not to others');
fails_like('trainer', $endless, qr/55000: another session trains model "endless" already/,
	'not twice at a time');
sql("SELECT pg_cancel_backend(pid) $progress = 'endless'");
($rc, undef, $err) = finish_query($query);
like($err, qr/canceling statement due to user request/, 'canceled');
ok(poll_sql($node, "SELECT count(*) = 1 $progress = 'endless' AND state = 'stopped'"),
	'it is shown as stopped');

# ---- switched off

$query = start_query($node, '\set VERBOSITY verbose', 'SET ROLE trainer', $endless);
ok(poll_sql($node, "SELECT count(*) = 1 $progress = 'endless' AND state = 'running'
	AND phase = 'training'"), 'it goes on');
$node->append_conf('postgresql.conf', "gpt2.enabled = off\n");
$node->reload;
($rc, undef, $err) = finish_query($query);
like($err, qr/57014: the training was told to end/, 'gpt2.enabled = off ends it');
fails_like('trainer', $endless, qr/55000: gpt2 is switched off/, 'and starts no other');
$node->append_conf('postgresql.conf', "gpt2.enabled = on\n");
$node->reload;

# ---- cancel, and going on

my $long = "CALL gpt_train('long', 'SELECT t FROM lines', $small, steps => 6000, dropout => 0.1)";
$query = start_query($node, 'SET ROLE trainer', $long);
# In one statement, so that no machine is through before.
is(sql(<<"END"), '', 'it trains');
SET statement_timeout = '180s';
DO \$\$ BEGIN
    WHILE NOT EXISTS (SELECT $progress = 'long' AND step > 5) LOOP PERFORM pg_sleep(0.001); END LOOP;
    PERFORM pg_cancel_backend(pid) $progress = 'long';
END \$\$
END
finish_query($query);
ok(poll_sql($node, "SELECT count(*) = 1 $progress = 'long' AND state = 'stopped'"), 'stopped');
my $step = sql("SELECT step $progress = 'long'");
cmp_ok($step, '<', 6000, 'before its end');
sql("INSERT INTO lines VALUES (400, 'a row that came later')");
($rc, undef, $err) = try_as('trainer', $long);
is($rc, 0, 'the same CALL goes on') or diag $err;
like($err, qr/NOTICE:.* going on with the rows that were read before/, 'with the same rows');
like($err, qr/NOTICE:.* going on after step $step\n/, 'from where it was');
my $resumed = slurp_made('long', 'model.safetensors');
sql('DELETE FROM lines WHERE id = 400');
($rc, undef, $err) = try_as('trainer', $long =~ s/'long'/'whole'/r);
is(slurp_made('whole', 'model.safetensors'), $resumed, 'to the same bits as without a stop');

# ---- the process dies; so does the server

sub trainer_pid { return (children_of(supervisor_pid($node), 'gpt2_train'))[0] }

$query = start_query($node, 'SET ROLE trainer', $long =~ s/'long'/'dies'/r);
ok(poll_sql($node, "SELECT count(*) > 0 $progress = 'dies' AND step > 5"), 'it trains');
my $adj = slurp_file('/proc/' . trainer_pid() . '/oom_score_adj');
ok($adj == 700 || $adj == 0, 'more likely to be killed than the engine');
kill 'KILL', trainer_pid();
($rc, undef, $err) = finish_query($query);
like($err, qr/the process that trains has ended/, 'its end is an error');
like($err, qr/The same CALL goes on/, 'with a hint');
$query = start_query($node, 'SET ROLE trainer', $long =~ s/'long'/'dies'/r);
ok(poll_sql($node, "SELECT count(*) > 0 $progress = 'dies' AND step > 5
	AND state = 'running'"), 'it trains again');
$node->stop('immediate');
finish_query($query);
$node->start;
is(sql("SELECT count(*) $progress = 'dies'"), 1, 'after a crash it is there to go on with');
($rc, undef, $err) = try_as('trainer', $long =~ s/'long'/'dies'/r);
is($rc, 0, 'and goes on') or diag $err;
is(slurp_made('dies', 'model.safetensors'), $resumed, 'to the same bits');

# ---- without the program

rename $program, "$program.away" or die "could not rename: $!";
fails_like('trainer', $made->("'SELECT t FROM lines'"),
	qr/0A000: cannot start a training\n.*HINT:.*belongs beside gpt2_engine/s, 'without gpt2_train: a clear error');
rename "$program.away", $program or die "could not rename: $!";

# ---- in a transaction

($rc, undef, $err) = try_as('trainer', 'BEGIN',
	$call =~ s/'sums'/'inside'/r =~ s/steps => 60/steps => 2/r, 'COMMIT');
is($rc, 0, 'inside a transaction block too') or diag $err;
is(sql("SELECT string_agg(model, ' ') FROM gpt_stat_progress_train"), 'endless', 'all is done');

done_testing();
