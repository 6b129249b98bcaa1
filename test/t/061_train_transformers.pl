# Trained models in Hugging Face transformers: the same tokens, the same texts, and log-probabilities
# within 1e-4 of the engine's in f32.  GPT2_TEST_PYTHON is a Python with torch and transformers, and peft
# for an adapter.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $python = $ENV{GPT2_TEST_PYTHON};
plan skip_all => 'GPT2_TEST_PYTHON is not set' unless $python;

my $node = new_server('main');
my $models = $node->data_dir . '/gpt2_models';
my $text = "12 plus 5 is 17, \xe4\xbd\xa0\xe5\xa5\xbd.";

sub sql { return $node->safe_psql('postgres', @_) }

sql(<<"SQL");
CREATE TABLE lines AS
SELECT i || ' plus ' || i % 7 || ' is ' || i + i % 7 || ', \xe4\xbd\xa0\xe5\xa5\xbd.' AS t
FROM generate_series(1, 200) AS i;
SQL

sub compare
{
	my ($model) = @_;
	my ($ids, $back, $logprobs) = split /\n/,
	  `HOME=/tmp "$python" -B test/vectors/check_trained.py "$models/$model" "$text" 2>/dev/null`;

	is(sql("SELECT array_to_string(gpt_tokenize('$text', '$model'), ' ')"), $ids,
		"$model: the same tokens");
	is($back, $text, "$model: the same text");
	my @theirs = split / /, $logprobs // '';
	my @ours = split /\n/, sql("SELECT logprob FROM gpt_logprobs('$text', '$model')
		WHERE logprob IS NOT NULL ORDER BY pos");
	is(scalar @ours, scalar @theirs, "$model: as many log-probabilities");
	my $largest = 0;
	for my $i (0 .. $#theirs)
	{
		my $d = abs($theirs[$i] - $ours[$i]);
		$largest = $d if $d > $largest;
	}
	note "$model: largest difference $largest";
	cmp_ok($largest, '<', 1e-4, "$model: log-probabilities within 1e-4");
	return;
}

for my $tokenizer ('char', 'byte', 'bpe')
{
	my $vocab = $tokenizer eq 'bpe' ? ', vocab_size => 300' : '';
	sql("CALL gpt_train('$tokenizer', 'SELECT t FROM lines', tokenizer => '$tokenizer'$vocab,
		n_layer => 2, n_head => 2, n_embd => 32, context => 64, steps => 40)");
	compare($tokenizer);
}
sql("CALL gpt_finetune('bpe', 'SELECT t FROM lines', 'tuned', lora_rank => 2, steps => 5)");
compare('tuned');
SKIP:
{
	skip 'the Python has no peft', 5 if system(qq{"$python" -c "import peft" 2>/dev/null}) != 0;
	sql("CALL gpt_finetune('bpe', 'SELECT reverse(t) FROM lines', 'kept', lora_rank => 4, steps => 20,
		learning_rate => 0.01, merge => false)");
	compare('kept');
}

done_testing();
