# Adapters that stay beside their base: made, loaded, shown and checked as models of their own; whose
# they are; a base that is replaced or gone; files that are no adapter.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', conf => "gpt2.train_threads = 1\n");
my $models = $node->data_dir . '/gpt2_models';
my $small = "tokenizer => 'char', n_layer => 2, n_head => 2, n_embd => 32, context => 32, "
  . 'batch_tokens => 128, learning_rate => 0.01';

sub sql { return $node->safe_psql('postgres', @_) }

# Output and errors of a statement, as a role.
sub try_as
{
	my ($role, $sql) = @_;
	my (undef, $out, $err) =
	  finish_query(start_query($node, '\set VERBOSITY verbose', "SET ROLE $role", $sql));
	return ($out, $err);
}

sub fails_like
{
	my ($role, $sql, $pattern, $what) = @_;
	like((try_as($role, $sql))[1], $pattern, $what);
	return;
}

# Log-probabilities of a text.
sub logprobs
{
	my ($model) = @_;
	return split /\n/, sql("SELECT logprob FROM gpt_logprobs('12 plus 5 is 17', '$model')
		WHERE logprob IS NOT NULL ORDER BY pos");
}

sub write_file
{
	my ($path, $text) = @_;
	open my $file, '>', $path or die "$path: $!";
	print $file $text;
	close $file or die "$path: $!";
	return;
}

sql(<<'SQL');
CREATE ROLE trainer LOGIN;
CREATE ROLE other LOGIN;
CREATE TABLE lines AS
SELECT i AS id, i || ' plus ' || i % 7 || ' is ' || i + i % 7 AS t FROM generate_series(1, 300) AS i;
GRANT SELECT ON lines TO trainer, other;
GRANT EXECUTE ON PROCEDURE gpt_train, gpt_finetune TO trainer;
SQL

# ---- made

my $train = "CALL gpt_train('base', 'SELECT t FROM lines', $small, steps => 40)";
my $tune = "CALL gpt_finetune('base', 'SELECT reverse(t) FROM lines', 'NAME', lora_rank => 4, "
  . 'steps => 30, batch_tokens => 128, learning_rate => 0.01, merge => MERGE)';
my (undef, $err) = try_as('trainer', $train);
unlike($err, qr/ERROR/, 'a base is trained');
(undef, $err) = try_as('trainer', $tune =~ s/NAME/merged/r =~ s/MERGE/true/r);
unlike($err, qr/ERROR/, 'merged');
(undef, $err) = try_as('trainer', $tune =~ s/NAME/kept/r =~ s/MERGE/false/r);
unlike($err, qr/ERROR/, 'kept');
ok(-f "$models/kept/$_", "the folder has $_")
  for qw(adapter_config.json adapter_model.safetensors gpt2.json README.md training_log.csv);
ok(!-e "$models/kept/$_", "and no $_") for qw(config.json model.safetensors tokenizer.json);
is(sql("SELECT count(*) > 0 FROM gpt_training_log('kept')"), 't', 'it has a log');
my $size = -s "$models/kept/adapter_model.safetensors";
cmp_ok($size, '<', (-s "$models/base/model.safetensors") / 2, 'and little weight');

fails_like('trainer', $tune =~ s/NAME/no/r =~ s/MERGE/false/r =~ s/lora_rank => 4, //r,
	qr/22023: merge => false needs lora_rank/, 'refused: no adapter to keep');
fails_like('trainer', $tune =~ s/NAME/base/r =~ s/MERGE/false, replace => true/r,
	qr/22023: an adapter that is kept needs another name/, 'refused: in the place of its base');
fails_like('trainer', "CALL gpt_finetune('kept', 'SELECT t FROM lines', 'no')",
	qr/0A000: model "kept" is an adapter, which cannot be trained further/,
	'refused: an adapter of an adapter');
ok(!-e "$models/no", 'none of them left a model');

# ---- shown, before it is loaded

my $row = "SELECT architecture, context_length, vocab_size = (SELECT vocab_size FROM gpt_models
	WHERE name = 'base'), state, error IS NULL FROM gpt_models WHERE name = 'kept'";
is(sql($row), 'gpt2|32|t|on disk|t', 'gpt_models shows what its base is');
my $bases = "SELECT name, base FROM gpt_models WHERE name IN ('base', 'merged', 'kept') ORDER BY name";
is(sql($bases), "base|\nkept|base\nmerged|", 'and its name, which others have not');
is(sql("SELECT string_agg(item || coalesce(ok::text, 'skipped'), ' ')
	FROM gpt_check_model('kept')"), 'foldertrue adapter_config.jsontrue basetrue weightstrue '
	  . 'gpt2.jsontrue rolestrue', 'gpt_check_model looks at it');
is(sql("SELECT detail FROM gpt_check_model('kept') WHERE item = 'weights'"),
	'adapters of 8 matrices, rank 4', 'and says what it is');

# ---- what it computes

sql("SELECT gpt_load_model(m, 'f32') FROM unnest('{base,merged,kept}'::text[]) AS m");
my (@base, @merged, @kept);
@base = logprobs('base');
@merged = logprobs('merged');
@kept = logprobs('kept');
is(scalar @kept, scalar @merged, 'as many log-probabilities');
cmp_ok(largest_difference(\@merged, \@kept), '<', 1e-4, 'those of the merged model');
cmp_ok(largest_difference(\@base, \@kept), '>', 0.1, 'which are not the base\'s');
is(sql("SELECT gpt_generate('21 ', 12, model => 'kept') = gpt_generate('21 ', 12, model => 'merged')"),
	't', 'the same text');
is(sql("SELECT state, content_hash <> (SELECT content_hash FROM gpt_models WHERE name = 'base'),
	bytes < (SELECT bytes FROM gpt_models WHERE name = 'base') FROM gpt_models WHERE name = 'kept'"),
	'loaded|t|t', 'its content and its bytes are its own');
my @packs = glob $node->data_dir . '/base/pgsql_tmp_gpt2/*.pack';
is(scalar @packs, 2, 'base and adapter have one packed file');
for my $format (qw(q8 q4 bf16))
{
	sql("SELECT gpt_load_model(m, '$format') FROM unnest('{base,kept}'::text[]) AS m");
	my @rounded = logprobs('kept');
	cmp_ok(largest_difference(\@merged, \@rounded), '<',
		largest_difference(\@merged, \@base), "$format is near");
}

sql("SELECT gpt_load_model(m, 'f32') FROM unnest('{base,kept}'::text[]) AS m");

# ---- whose it is

is((try_as('trainer', "SELECT length(gpt_generate('1 ', 5, model => 'kept')) > 0"))[0], 't',
	'its owner can use it');
fails_like('other', "SELECT gpt_generate('1 ', 5, model => 'kept')",
	qr/42501: permission denied for model "kept"/, 'others cannot');
is((try_as('other', "SELECT count(*) FROM gpt_models WHERE name = 'kept'"))[0], '0',
	'nor see it');
try_as('trainer', "SELECT gpt_grant_model('kept', 'other')");
is((try_as('other', "SELECT length(gpt_generate('1 ', 5, model => 'kept')) > 0"))[0], 't',
	'until it is granted');
fails_like('other', "SELECT gpt_generate('1 ', 5, model => 'base')",
	qr/42501: permission denied for model "base"/, 'and it alone');

# ---- unloaded, started again

sub unload
{
	my ($name) = @_;
	return (finish_query(start_query($node, "SELECT gpt_unload_model('$name')")))[2];
}

is(sql($bases), "base|\nkept|base\nmerged|", 'loaded, gpt_models says the same');
like(unload('base'), qr/NOTICE:  00000: the weights of model "base" stay in memory: 1 adapter of it is loaded\n.*DETAIL:  Loaded: kept\.\nHINT:  Unload the adapters too\./s,
	'unloading a base tells what stands on it');
is(sql("SELECT state FROM gpt_models WHERE name = 'kept'"), 'loaded',
	'it stays when its base is unloaded');
is(unload('merged'), '', 'nothing stands on a merged model');
my $text = sql("SELECT gpt_generate('21 ', 12, model => 'kept')");
sql("SELECT gpt_unload_model('kept')");
is(sql("SELECT state FROM gpt_models WHERE name = 'kept'"), 'on disk', 'unloaded');
sql("SELECT gpt_load_model('base')");
is(unload('base'), '', 'nothing stands on the base any more');
is(sql("SELECT gpt_generate('21 ', 12, model => 'kept')"), $text, 'loaded again');
sql('SELECT gpt_restart_engine()');
is(sql("SELECT gpt_generate('21 ', 12, model => 'kept')"), $text, 'and by a new engine');

# ---- a base that is gone, or another

rename "$models/base", "$models/away" or die;
is(sql("SELECT gpt_generate('21 ', 12, model => 'kept')"), $text,
	'what is loaded needs its base\'s folder no more');
sql("SELECT gpt_unload_model('kept')");
fails_like('trainer', "SELECT gpt_generate('21 ', 12, model => 'kept')",
	qr/55000: model "kept" is an adapter of model "base", which is not there\n.*HINT:  Put the folder/s,
	'without its base it cannot be loaded');
like(sql("SELECT error FROM gpt_models WHERE name = 'kept'"), qr/not there/, 'as gpt_models says');
is(sql("SELECT item, ok FROM gpt_check_model('kept') WHERE item IN ('base', 'weights')"),
	"base|f\nweights|", 'and gpt_check_model');
rename "$models/away", "$models/base" or die;
is(sql("SELECT gpt_generate('21 ', 12, model => 'kept')"), $text, 'it comes back with it');

(undef, $err) = try_as('trainer', $train =~ s/steps => 40/steps => 41, replace => true/r);
unlike($err, qr/ERROR/, 'the base is replaced');
ok(poll_until(sub { (try_as('trainer', "SELECT gpt_generate('21 ', 12, model => 'kept')"))[1]
		=~ /55000: model "base" is not the one that adapter "kept" was made from/ }),
	'an adapter of the old one is refused');
fails_like('trainer', "SELECT gpt_generate('21 ', 12, model => 'kept')",
	qr/DETAIL:  Its content hash is [0-9a-f]{64}, "base_hash" in .* is [0-9a-f]{64}/,
	'and why is said');
is(sql("SELECT item FROM gpt_check_model('kept') WHERE NOT ok"), 'base', 'also by gpt_check_model');
(undef, $err) = try_as('trainer', $tune =~ s/NAME/kept/r =~ s/MERGE/false, replace => true/r);
unlike($err, qr/ERROR/, 'made again, for the new one');
ok(poll_until(sub { (try_as('trainer', "SELECT length(gpt_generate('21 ', 12, model => 'kept')) > 0"))[0]
		eq 't' }), 'it is loaded');

# ---- files that are no adapter

my $config = slurp_file("$models/kept/adapter_config.json");
my $weights = slurp_file("$models/kept/adapter_model.safetensors");
my @bad = (
	['adapter_config.json', $config =~ s/LORA/LOHA/r, qr/0A000: "peft_type" in/],
	['adapter_config.json', $config =~ s/"r":\s*4/"r": 5/r, qr/22P03: tensor .* must have shape/],
	['adapter_config.json', '{', qr/22032: /],
	['adapter_model.safetensors', substr($weights, 0, length($weights) - 4), qr/22P03: /],
	['adapter_model.safetensors', '', qr/22P03: /],
	['gpt2.json', '{"base_hash": 7}', qr/22032: "base_hash" in/],
);
for my $case (@bad)
{
	my ($name, $content, $pattern) = @$case;
	my $old = slurp_file("$models/kept/$name");

	write_file("$models/kept/$name", $content);
	sql("SELECT gpt_unload_model('kept')")
	  if sql("SELECT state = 'loaded' FROM gpt_models WHERE name = 'kept'") eq 't';
	like((finish_query(start_query($node, "SELECT gpt_generate('1', 2, model => 'kept')")))[2],
		$pattern, "refused: $pattern");
	is(sql("SELECT bool_and(ok) FROM gpt_check_model('kept')"), 'f', 'and seen by gpt_check_model');
	write_file("$models/kept/$name", $old);
}
is(sql("SELECT length(gpt_generate('21 ', 12, model => 'kept')) > 0"), 't',
	'with the right files it is loaded');

done_testing();
