# Scores of a long text under faults: the engine dies, the statement is cancelled or runs out of time.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main');
add_slow_model($node, 'windows', 7, 256);
my $small = "SELECT gpt_loss('once upon a time', 'windows')";
my $right = $node->safe_psql('postgres', $small);

# A text of so many times 17 letters, which are its tokens, in windows of 256.
sub long_loss
{
	my ($times) = @_;
	return "SELECT gpt_loss(repeat('once upon a time ', $times), 'windows', '{\"cache\": false}')";
}

my $started = time;
my $long = long_loss(150);
my $right_long = $node->safe_psql('postgres', $long);
note(sprintf 'a loss of %d letters took %.2f s', 150 * 17, time - $started);

# The request is sent again, from its first window.
{
	my $engine = engine_pid($node);
	my $query = start_generating($node, $long);

	ok(wait_generating($node), 'engine death: at work');
	kill 'KILL', $engine;
	ok(poll_sql($node, "SELECT engine_pid <> $engine FROM gpt_info()"),
		'engine death: a new engine');
	ok(wait_generating($node), 'engine death: at work again');
	my ($rc, $out, $err) = finish_generating($node, $query);
	is("$out$err", $right_long, 'engine death: the same loss');
	ok(idle_engine($node), 'engine death: nothing is left in the engine');
}

# It is shown while it runs, as what reads and does not write.
{
	my $query = start_query($node, long_loss(50000), $small);

	ok(wait_generating($node), 'cancel: at work');
	is($node->safe_psql('postgres',
			'SELECT DISTINCT model, state, generated_tokens, max_len FROM gpt_stat_requests'),
		'windows|prefill|0|0', 'cancel: seen');
	cancel_queries($node, '%50000%');
	my $canceled = time;
	my ($rc, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  57014: canceling statement due to user request/, 'cancel: 57014');
	is($out, $right, 'cancel: the next call in the same session');
	ok(idle_engine($node), 'cancel: nothing is left in the engine');
	elapsed_ok($canceled, 1.25, 'cancel: given back');
}

# statement_timeout in a classification whose labels are long.
{
	my $labels = "ARRAY[repeat('a', 100), repeat('b', 101), repeat('c', 102)]";
	my ($rc, $out, $err) = finish_query(
		start_query($node, 'SET statement_timeout = 100',
			"SELECT gpt_classify(repeat('once upon a time ', 60) || g, $labels, 'windows')"
			  . ' FROM generate_series(1, 1000) AS g',
			'SET statement_timeout = 0', $small));

	like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, 'timeout: 57014');
	is($out, $right, 'timeout: the next call in the same session');
	ok(idle_engine($node), 'timeout: nothing is left in the engine');
}

$node->stop('fast');
done_testing();
