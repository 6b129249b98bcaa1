# How the demo model is made and measured: train.sql and evaluate.sql, on few rows; and that the
# included model meets its bar on some of the texts.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'no python3, which writes the texts' if system('python3 -c "" 2>/dev/null') != 0;

my $node = new_server('main');

sub run_script
{
	my ($script, @variables) = @_;
	my ($out, $err);

	local $ENV{PGOPTIONS} = '--client-min-messages=notice';
	my $rc = IPC::Run::run(
		[   'psql', '-X', '-At', '-d', $node->connstr('postgres'),
			(map { ('-v', $_) } @variables), '-f', "models/demo/$script" ],
		'>', \$out, '2>', \$err);
	return ($rc, $out, $err);
}

my ($ok, $out, $err) = run_script('evaluate.sql', 'most=60');
ok($ok, 'the included model meets its bar') or diag "$out$err";
like($out, qr/^held-out names and combinations\|60\|\d/m, 'summaries are counted');
like($out, qr/^category\|60\|\d/m, 'and other answers');

($ok, $out, $err) = run_script('train.sql', 'rows=200', 'model=tiny_demo', 'threads=1');
ok($ok, 'a model is made of 200 rows') or diag "$out$err";
like($err, qr/200 rows, 2 held out/, 'of all of them');
$node->safe_psql('postgres', "SELECT gpt_load_model('tiny_demo')");
is($node->safe_psql('postgres', "SELECT context_length, tokenizer
	FROM gpt_models WHERE name = 'tiny_demo'"), '512|gpt2-bpe', 'in the demo model\'s way');
is($node->safe_psql('postgres', "SELECT gpt_detokenize(gpt_tokenize('A kettle.', 'tiny_demo'),
	'tiny_demo')"), 'A kettle.', 'with a tokenizer');

($ok, $out, $err) = run_script('evaluate.sql', 'most=3', 'model=tiny_demo');
ok(!$ok, 'one that has learned so little does not meet the bar');
like($err, qr/ERROR:.*the model is below the bar/, 'and that is said');

done_testing();
