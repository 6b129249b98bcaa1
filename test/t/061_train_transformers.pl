# Trained models in Hugging Face transformers, adapters in PEFT, one of them made by it: the same tokens,
# the same texts, and log-probabilities within 1e-4 of the engine's in f32.  GPT2_TEST_PYTHON is a Python with
# torch, transformers and peft that the server's user can run; `make check-transformers` makes one.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $python = $ENV{GPT2_TEST_PYTHON};
plan skip_all => 'GPT2_TEST_PYTHON is not set (make check-transformers)' unless $python;

my $node = new_server('main');
my $models = $node->data_dir . '/gpt2_models';
my $text = "12 plus 5 is 17, \xe4\xbd\xa0\xe5\xa5\xbd.";

sub sql { return $node->safe_psql('postgres', @_) }

sql(<<"SQL");
CREATE TABLE lines AS
SELECT i || ' plus ' || i % 7 || ' is ' || i + i % 7 || ', \xe4\xbd\xa0\xe5\xa5\xbd.' AS t
FROM generate_series(1, 200) AS i;
SQL

# ---- made: from nothing, with each tokenizer; from one of these, in each way

for my $tokenizer ('char', 'byte', 'bpe')
{
	my $vocab = $tokenizer eq 'bpe' ? ', vocab_size => 300' : '';
	sql("CALL gpt_train('$tokenizer', 'SELECT t FROM lines', tokenizer => '$tokenizer'$vocab,
		n_layer => 2, n_head => 2, n_embd => 32, context => 64, steps => 40)");
}
my %tuned = (whole => 'lora_rank => 0', merged => 'lora_rank => 4',
	kept => 'lora_rank => 4, merge => false');
sql("CALL gpt_finetune('bpe', 'SELECT reverse(t) FROM lines', '$_', $tuned{$_}, steps => 20,
	learning_rate => 0.01)")
  for sort keys %tuned;

# ---- loaded by one process, which is slow to start, and makes an adapter on one of them

my @adapted = (sort(keys %tuned), 'peft');
my @made = ('char', 'byte', 'bpe', @adapted);
my $folders = join ' ', map { "\"$models/$_\"" } 'bpe', 'peft', @made;
my $log = "$PostgreSQL::Test::Utils::tmp_check/transformers.log";
my @theirs = split /\n/,
  `HOME=/tmp HF_HUB_OFFLINE=1 "$python" -B test/vectors/check_trained.py "$text" $folders 2>"$log"`;
is($?, 0, 'transformers and PEFT load all of them') or diag slurp_file($log);

my %ours;
for my $model (@made)
{
	my ($ids, $back, $logprobs) = splice @theirs, 0, 3;
	is(sql("SELECT array_to_string(gpt_tokenize('$text', '$model'), ' ')"), $ids,
		"$model: the same tokens");
	is($back, $text, "$model: the same text");
	my @theirs = split / /, $logprobs // '';
	my @ours = split /\n/, sql("SELECT logprob FROM gpt_logprobs('$text', '$model')
		WHERE logprob IS NOT NULL ORDER BY pos");
	is(scalar @ours, scalar @theirs, "$model: as many log-probabilities");
	my $largest = largest_difference(\@ours, \@theirs);
	note "$model: largest difference $largest";
	cmp_ok($largest, '<', 1e-4, "$model: log-probabilities within 1e-4");
	$ours{$model} = \@ours;
}
cmp_ok(largest_difference($ours{bpe}, $ours{$_}), '>', 0.1, "$_: not those of its base")
  for @adapted;

done_testing();
