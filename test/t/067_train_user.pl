# What somebody meets who trains a model for the first time: which rows are read, what is said, and names
# that the rest of the server can live with.
use strict;
use warnings;

use File::Copy qw(copy);
use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', conf => "gpt2.train_threads = 1\n"
	  . "wal_level = replica\nmax_wal_senders = 2\n");	# for a base backup
my $small = "tokenizer => 'char', n_layer => 1, n_head => 2, n_embd => 32, context => 32, "
  . 'batch_tokens => 128';

sub sql { return $node->safe_psql('postgres', @_) }

# Errors and notices of statements.
sub messages_of
{
	my (undef, undef, $err) = finish_query(start_query($node, '\set VERBOSITY verbose', @_));
	return $err;
}

sql('CREATE TABLE lines (t text)');
sql("INSERT INTO lines SELECT 'line ' || i FROM generate_series(1, 100) AS i");

# ---- which rows

my $inside = "CALL gpt_train('inside', 'SELECT t FROM lines', $small, steps => 2)";
like(messages_of("DO \$\$ BEGIN INSERT INTO lines VALUES ('one more'); $inside; END \$\$"),
	qr/ 101 rows, /, 'rows that the same DO has written are read');
sql("CREATE PROCEDURE add_and_train() LANGUAGE plpgsql AS \$\$ BEGIN
	INSERT INTO lines VALUES ('another');
	@{[ $inside =~ s/inside/procedure/r ]};
	END \$\$");
like(messages_of('CALL add_and_train()'), qr/ 102 rows, /, 'and that a procedure has written');
like(messages_of('BEGIN', "INSERT INTO lines VALUES ('a third')", $inside =~ s/inside/block/r,
		'ROLLBACK'), qr/ 103 rows, /, 'and those of the transaction');

my $changes = qr/22023: the query of a training must be a SELECT that changes nothing/;
like(messages_of("CALL gpt_train('no', \$\$$_\$\$, $small)"), $changes, "refused: $_")
  for "INSERT INTO lines VALUES ('x') RETURNING t", 'DELETE FROM lines RETURNING t',
  "WITH i AS (INSERT INTO lines VALUES ('x') RETURNING t) SELECT t FROM i", 'SHOW server_version',
  'EXPLAIN SELECT t FROM lines';
is(sql('SELECT count(*) FROM lines'), 102, 'and has changed nothing');
like(messages_of("CALL gpt_train('no', 'SELECT 1', $small)"), qr/HINT:  Cast it to text\./,
	'a column that is no text: what to do');

my $relu = $node->data_dir . '/gpt2_models/relu';
mkdir $relu or die "could not create $relu: $!";
copy($_, $relu) or die "could not copy $_: $!" for glob "models/demo/*.*";
my $config = slurp_file("$relu/config.json");
unlink "$relu/config.json";
append_to_file("$relu/config.json", $config =~ s/"gelu_new"/"relu"/r);
sql('CREATE SEQUENCE numbers');
like(messages_of("CALL gpt_finetune('relu', \$\$SELECT nextval('numbers')::text\$\$, 'no')"),
	qr/ERROR:  0A000: .*activation_function/, 'a base that cannot be trained');
like(messages_of("CALL gpt_train('no', \$\$SELECT nextval('numbers')::text\$\$, n_layer => 64, n_embd => 4096)"),
	qr/ERROR:  53200: training a model of .*\nHINT:  Take a smaller model\.\n/, 'and a model that is too large');
is(sql('SELECT is_called FROM numbers'), 'f', 'are refused before the rows are read');

# ---- what is said

like(messages_of("CALL gpt_train('said', 'SELECT t FROM lines', $small, steps => 100)"),
	qr/NOTICE:.* model "said" has the weights of step \d+ of 100: loss [\d.]+ at the end, held-out loss [\d.]+\n/,
	'how it went');
my $messages = messages_of("CALL gpt_train('wild', 'SELECT t FROM lines', $small, steps => 20, "
	  . 'learning_rate => 50)');
like($messages, qr/WARNING:.* the model is no better on these rows than a guess: its loss is/, 'that it went wrong');
unlike(messages_of("CALL gpt_train('tame', 'SELECT t FROM lines', $small, steps => 20)"),
	qr/WARNING|stand for what/, 'and nothing of it where it did not');
like(messages_of("CALL gpt_finetune('said', \$\$VALUES ('XYZ'), ('line')\$\$, 'foreign', steps => 2)"),
	qr/NOTICE:.* 3 tokens stand for what the vocabulary lacks/, 'characters that the model does not know');

# Messages of a training that is canceled while it trains.  Its process may outlive its session for a
# moment: the next one must not be taken for it.
sub canceled
{
	my $query = start_query($node, '\set VERBOSITY verbose',
		"CALL gpt_train('endless', 'SELECT t FROM lines', $small, steps => 1000000)");
	my $running = "FROM gpt_stat_progress_train WHERE state = 'running' AND phase = 'training'";

	ok(poll_sql($node, "SELECT count(*) = 1 $running"), 'it trains');
	sql("SELECT pg_cancel_backend(pid) $running");
	my $messages = (finish_query($query))[2];
	ok(poll_sql($node, "SELECT count(*) = 0 $running"), 'it has ended');
	return $messages;
}

like(canceled(), qr/57014: .*user request\nHINT:  The same CALL goes on/, 'that what was done is not lost');
like(canceled(), qr/NOTICE:.* going on with the rows that were read before\nHINT:  Another seed begins anew/,
	'that it goes on, and how it would not');

# ---- a style, with the manual's settings of adapters

for my $merge ('true', 'false')
{
	my $style = "style_$merge";

	messages_of("CALL gpt_finetune('demo', \$\$SELECT 'Dear customer, the ' || w || ' is late.'
		FROM unnest('{train,parcel,letter,bus,bill}'::text[]) AS w, generate_series(1, 30)\$\$,
		'$style', lora_rank => 8, merge => $merge, steps => 60, batch_tokens => 512,
		learning_rate => 0.01)");
	like(sql("SELECT gpt_generate('Dear customer,', 20, model => '$style')"),
		qr/^ the (train|parcel|letter|bus|bill) is late\.$/, "an adapter learns it, merge => $merge");
}

# ---- too many

my $running = "FROM gpt_stat_progress_train WHERE state = 'running' AND phase = 'training'";
my @queries = map { start_query($node,
	"CALL gpt_train('one$_', 'SELECT t FROM lines', $small, steps => 1000000)") } 1 .. 4;
ok(poll_sql($node, "SELECT count(*) = 4 $running"), 'four train');
like(messages_of("CALL gpt_train('fifth', 'SELECT t FROM lines', $small)"),
	qr/53400: too many trainings run at the same time\nHINT:.* at most 4 run/, 'a fifth is refused');
sql("SELECT pg_cancel_backend(pid) $running");
finish_query($_) for @queries;
ok(poll_sql($node, "SELECT count(*) = 0 $running"), 'all have ended');

# ---- the picture

my $picture = sql("SELECT gpt_training_svg('said')");
my ($curve, $held_out) = $picture =~ /points="([^"]+)"/g;
is(split(/ /, $curve), sql("SELECT count(*) FROM gpt_training_log('said')"), 'the picture has the curve');
is(split(/ /, $held_out), 20, 'and that of held-out rows');
like($picture, qr/points="65\.6,30\.0 /, 'from the highest loss on');
unlike("$curve $held_out", qr/\.\d\d|NaN/, 'its numbers are short');
sql("CALL gpt_train('<&', 'SELECT t FROM lines', $small, steps => 1, eval_fraction => 0)");
like(sql("SELECT gpt_training_svg('<&')"), qr/>&lt;&amp;<.*points=""/, 'of any name, without rows held out');

# ---- who may use what has replaced another

sql('CREATE ROLE reader; CREATE ROLE maker; GRANT SELECT ON lines TO maker;
	GRANT EXECUTE ON PROCEDURE gpt_train TO maker');
my $make = "CALL gpt_train('made', 'SELECT t FROM lines', $small, steps => 1, replace => true)";
my $use = "SELECT length(gpt_generate('line', 2, model => 'made')) > 0";
sub as_role { my ($role, @sql) = @_; return finish_query(start_query($node, "SET ROLE $role", @sql)) }
as_role('maker', $make);
like((as_role('reader', $use))[2], qr/permission denied for model "made"/, 'a new model is its owner\'s');
as_role('maker', "SELECT gpt_grant_model('made', 'reader')");
as_role('maker', $make =~ s/steps => 1/steps => 2/r);
is((as_role('reader', $use))[1], 't', 'made again, it is for whom it was before');
as_role('maker', "SELECT gpt_revoke_model('made', 'reader')");
as_role('maker', $make =~ s/steps => 1/steps => 3/r);
like((as_role('reader', $use))[2], qr/permission denied for model "made"/, 'and for nobody else');
sql("SELECT gpt_grant_model('made', 'public')");
sql($make);
is((as_role('reader', $use))[1], 't', 'also where a superuser has made it again');

# ---- names

my $longest = 'n' x 61;
like(messages_of("CALL gpt_train('${longest}n', 'SELECT t FROM lines', $small)"),
	qr/42602: model name "n{62}" is too long/, 'a name that base backups have no room for');
my $made = messages_of("CALL gpt_finetune('demo', 'SELECT t FROM lines', '$longest', lora_rank => 1, "
	  . 'merge => false, steps => 1)');
like($made, qr/model "n{61}" has the weights/, 'the longest name');
$node->backup('with_models');
ok(-f $node->backup_dir . "/with_models/gpt2_models/$longest/adapter_model.safetensors",
	'is in a base backup');

done_testing();
