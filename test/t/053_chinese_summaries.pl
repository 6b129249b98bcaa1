# Summaries with a BERT vocabulary of Chinese characters: the default template, and parts of a text
# without spaces, which this kind of tokenizer does not give back byte by byte.
use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8);
use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $folder = $node->data_dir . '/gpt2_models/chinese';
my @pieces = (
	split(' ', '[PAD] [UNK] [CLS] [SEP] [MASK]'),
	split(//, '这是一个关于大模型在市场上降价趋势的文章。，！摘要：今天很好'),
	split(' ', 'hello world play ##ing'));
my $sentence = '这是一个关于大模型在市场上降价趋势的文章。';

mkdir $node->data_dir . '/gpt2_models';
system_or_bail(engine_program(), 'synth', $folder, '--layer', 1, '--embd', 16, '--head', 2,
	'--ctx', 64, '--vocab', scalar @pieces, '--sigma', 1, '--seed', 3);
append_to_file("$folder/vocab.txt", encode_utf8(join('', map { "$_\n" } @pieces)));

sub value
{
	my ($sql) = @_;
	return $node->safe_psql('postgres',
		"SET gpt2.model = 'chinese'; SET gpt2.max_len = 10; " . encode_utf8($sql));
}

is(value("SELECT gpt_summarize('$sentence') =
	btrim(gpt_generate(E'$sentence\\n摘要：'), E' \\n')"), 't', 'the default template');
is(value("SELECT gpt_summarize('$sentence', options => '{\"template\": \"{input}\\n摘要：\"}') =
	gpt_summarize('$sentence')"), 't', 'the same, given');
is(value("SELECT count(*) FROM gpt_check_model('chinese') WHERE ok"), '7', 'the folder is right');

# 44 tokens are left for a part's text: two sentences of 21 go into one.
is( value("WITH parts AS (
	SELECT string_agg(s, E'\\n' ORDER BY i) AS summaries FROM (
		SELECT i, gpt_summarize(repeat('$sentence', 2)) AS s FROM generate_series(1, 2) AS i) AS q
	WHERE s <> '')
	SELECT gpt_summarize(repeat('$sentence', 4)) = gpt_summarize(summaries) FROM parts"),
	't', 'parts end with a sentence');
for my $text ("repeat('$sentence', 500)", "repeat('这是一个关于大模型', 700)",
	"repeat('hello playing world，', 900)", "repeat('今天很好！ Hello ', 999) || '好'")
{
	is( value("SELECT gpt_summarize($text, 5, options => '{\"cache\": false}') =
		gpt_summarize($text, 5, options => '{\"cache\": false}')"),
		't', encode_utf8("$text has a summary"));
	is( value("SELECT gpt_summarize_agg(t) = gpt_summarize(string_agg(t, E'\\n'))
		FROM (SELECT $text || i AS t FROM generate_series(1, 8) AS i) AS texts"),
		't', encode_utf8("$text: the aggregate's is the same"));
}
for my $side ('left', 'right')
{
	is( value("SELECT prompt_tokens BETWEEN 45 AND 54
		FROM gpt_completions(repeat('$sentence', 50), options => '{\"truncate\": \"$side\"}')"),
		't', "cut at the $side");
}

$node->stop('fast');
done_testing();
