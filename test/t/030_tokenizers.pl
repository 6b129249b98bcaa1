# Models with other tokenizers than GPT-2's: a BERT vocabulary, characters, a tokenizer.json.  The
# weights are random; what is looked at is text, going in and coming out.
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
my $models = $node->data_dir . '/gpt2_models';

# A folder with random weights and these files.
sub add_model
{
	my ($name, $vocab, %files) = @_;

	mkdir $models;
	system_or_bail(engine_program(), 'synth', "$models/$name", '--layer', 1, '--embd', 16,
		'--head', 2, '--ctx', 64, '--vocab', $vocab, '--sigma', 1, '--seed', 3);
	append_to_file("$models/$name/$_", encode_utf8($files{$_})) for keys %files;
	return;
}

sub value
{
	my ($sql, %options) = @_;
	return $node->safe_psql($options{database} || 'postgres', encode_utf8($sql));
}

# The SQLSTATE and message of a query that fails.
sub failure
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . encode_utf8($sql));

	$err =~ /ERROR:\s+(\S+): (.*)/ or return "no error: $out";
	return "$1 $2";
}

# ---- a BERT vocabulary ----

my @pieces = (
	split(' ', '[PAD] [UNK] [CLS] [SEP] [MASK]'),
	split(//, '这是一个关于大模型在市场上降价趋势的文章。，「」！あ'),
	split(' ', 'hello world play ##ing ##s , . ! cafe ##い سلام ##ات 😀'),
	map { "w$_" } 1 .. 20);
my $chinese = '这是一个关于大模型在市场上降价趋势的文章。';

add_model('bert', scalar @pieces, 'vocab.txt' => join('', map { "$_\n" } @pieces),
	'tokenizer_config.json' => '{"strip_accents": true}');
is(value("SELECT gpt_count_tokens('$chinese', 'bert')"), 21, 'a token for each Chinese character');
for my $text ($chinese, 'hello world', 'hello, playing plays!', '这是hello world的文章，「模型」！',
	'あい', 'سلامات سلام', 'hello 😀 world')
{
	is(value("SELECT gpt_detokenize(gpt_tokenize('$text', 'bert'), 'bert')"), encode_utf8($text),
		"there and back: " . encode_utf8($text));
}
is(value("SELECT gpt_detokenize(gpt_tokenize('HELLO  Café', 'bert'), 'bert')"), 'hello cafe',
	'lower case, no accents, one space');
is(value("SELECT gpt_tokenize('xyz', 'bert')"), '{1}', 'an unknown word is [UNK]');
is(value("SELECT gpt_detokenize('{2,25,1,26,3}', 'bert')"),
	value("SELECT gpt_detokenize('{25,26}', 'bert')"), 'special tokens have no text');
is(value("SELECT tokenizer FROM gpt_models WHERE name = 'bert'"), 'wordpiece', 'gpt_models');

# What is generated never holds a special token, but ends at [SEP].
is(value("SELECT count(*) FROM generate_series(1, 40) i,
	gpt_completions('$chinese', 20, 2, 'bert', temperature => 3, seed => i) c
	WHERE c.token_ids && '{0,1,2,4}' OR c.completion ~ '\\['"), 0, 'no [UNK], [PAD], [CLS], [MASK]');
is(value("SELECT bool_and((c.finish_reason = 'eos') = (c.token_ids && '{3}')),
	bool_or(c.finish_reason = 'eos'), bool_or(c.finish_reason = 'length')
	FROM generate_series(1, 40) i,
	gpt_completions('$chinese', 20, 2, 'bert', temperature => 3, seed => i) c"), 't|t|t',
	'[SEP] ends a text');
is(value("SELECT count(*) FROM generate_series(1, 20) i WHERE
	gpt_generate('hello', 20, 'bert', temperature => 2, seed => i) IS DISTINCT FROM
	(SELECT string_agg(piece, '' ORDER BY pos)
	 FROM gpt_stream('hello', 20, 'bert', temperature => 2, seed => i))"), 0,
	'a stream makes the same text');
is(value("SELECT count(*) FROM generate_series(1, 20) i,
	gpt_completions('hello', 20, 1, 'bert', temperature => 2, seed => i) c
	WHERE 'hello' || c.completion <>
	gpt_detokenize(gpt_tokenize('hello', 'bert') || c.token_ids, 'bert')"), 0,
	'prompt and completion together are what their tokens say');
is(value("SELECT count(*), count(DISTINCT t) > 1 FROM gpt_generate('$chinese', NULL, n => 5,
	model => 'bert', seed => 1, options => '{\"max_length\": 50, \"echo\": true}') t
	WHERE t LIKE '$chinese%'"), '5|t', 'five sequences of fifty tokens with their prompt');
# Scores: pieces are the text that they stand for; what is too long is cut.
is(value("SELECT string_agg(piece, '|' ORDER BY pos) FROM
	gpt_logprobs('hello playing, xyz 文章。plays', 'bert')"), encode_utf8('hello| play|ing|,||文|章|。|play|s'),
	'the pieces of scores');
is(value("SELECT gpt_classify(repeat('hello playing 文章。', 40), '{这是,市场}', 'bert') IN ('这是', '市场')"),
	't', 'a long text is classified by its beginning');
is(failure("SELECT gpt_generate('', 5, 'bert')"), 'no error: ' .
	value("SELECT gpt_generate('', 5, 'bert')"), 'an empty prompt starts with [CLS]');

# The vocabulary of real models, where it is there.
my $shared = ($ENV{GPT2_SHARED_MODELS} || '') . '/chinese/vocab.txt';
SKIP:
{
	skip 'no chinese/vocab.txt in GPT2_SHARED_MODELS', 2 unless -e $shared;
	add_model('chinese', 21128);
	append_to_file("$models/chinese/vocab.txt", slurp_file($shared));
	is(value("SELECT gpt_tokenize('《红楼梦》是四大名著之一', 'chinese')"),
		'{517,5273,3517,3457,518,3221,1724,1920,1399,5865,722,671}', 'ids of bert-base-chinese');
	is(value("SELECT count(*) FROM gpt_generate('$chinese', NULL, n => 5, model => 'chinese',
		seed => 1, options => '{\"max_length\": 50, \"echo\": true}') t
		WHERE t LIKE '$chinese%' AND t !~ '\\[(UNK|PAD|CLS|MASK)\\]'"), 5, 'five texts');
}

# ---- characters ----

add_model('characters', 8,
	'vocab.json' => '{"<end>": 0, "a": 1, "b": 2, " ": 3, "\n": 4, "文": 5, "é": 6, "😀": 7}');
is(value("SELECT gpt_tokenize(E'ab é\n文😀', 'characters')"), '{1,2,3,6,4,5,7}', 'characters');
is(value("SELECT gpt_detokenize('{1,2,3,6,0,4,5,7}', 'characters') = E'ab é\n文😀'"), 't',
	'and back');
is(failure("SELECT gpt_tokenize('abc', 'characters')"),
	"22023 the model's vocabulary lacks a character of the text", 'one that is not there');

# ---- tokenizer.json ----

add_model('json', 6, 'tokenizer.json' => '{"normalizer": {"type": "Lowercase"}, "pre_tokenizer":'
	. ' {"type": "Whitespace"}, "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab":'
	. ' {"<unk>": 0, "my": 1, "printer": 2, "is": 3, "broken": 4, ".": 5}}}');
is(value("SELECT gpt_tokenize('My PRINTER is quite broken.', 'json')"), '{1,2,3,0,4,5}', 'words');
is(value("SELECT gpt_detokenize('{1,2,3,0,4,5}', 'json')"), 'my printer is broken.', 'and back');
is(value("SELECT tokenizer FROM gpt_models WHERE name = 'json'"), 'words', 'gpt_models');

# ---- what is refused ----

add_model('unigram', 6, 'tokenizer.json' => '{"model": {"type": "Unigram", "vocab": []}}');
like(failure("SELECT gpt_count_tokens('a', 'unigram')"),
	qr/^0A000 the tokenizer in ".*tokenizer.json" is not supported: model "Unigram"$/, 'Unigram');
add_model('toobig', 6, 'vocab.txt' => "[UNK]\n" . join('', map { "w$_\n" } 1 .. 9));
like(failure("SELECT gpt_count_tokens('a', 'toobig')"),
	qr/^22032 piece "w6" .* at line 7 has id 6, but vocab_size is 6/, 'more pieces than rows');
add_model('nomerges', 300, 'vocab.json' => '{"ab": 0, "b": 1}');
like(failure("SELECT gpt_count_tokens('a', 'nomerges')"),
	qr/^58P01 the tokenizer has no ".*merges.txt"$/, 'no merges');

# ---- a checkpoint of PyTorch ----

mkdir "$models/torch";
append_to_file("$models/torch/config.json", slurp_file("$models/json/config.json"));
append_to_file("$models/torch/pytorch_model.bin",
	slurp_file("$FindBin::RealBin/../vectors/data/checkpoint/pytorch_model.bin"));
my ($rc, $out, $err) = $node->psql('postgres', "SELECT gpt_load_model('torch')");
like($err, qr/only "pytorch_model.bin".*HINT:  Convert it: gpt2_engine import /s,
	'the server reads no checkpoint, and says who does');
command_like([ engine_program(), 'import', "$models/torch" ],
	qr/model\.safetensors: 6 tensors, 94 bytes/, 'import');
command_fails_like([ engine_program(), 'import', "$models/torch" ], qr/already \(22023\)/,
	'import never replaces a file');

# ---- a database that cannot hold the characters ----

$node->safe_psql('postgres',
	"CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
$node->safe_psql('latin1', 'CREATE EXTENSION gpt2');
is($node->safe_psql('latin1', "SELECT gpt_detokenize('{5,6,7,8}', 'bert')"),
	'????', 'what the encoding lacks is a question mark');
is(value("SET client_encoding = 'UTF8'; SELECT octet_length(gpt_detokenize('{6,5,1}', 'characters'))",
	database => 'latin1'), 3, 'and what it has is one byte');

done_testing();
