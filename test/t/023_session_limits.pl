# Limits of roles with a real engine: what one session is told holds for no other of its role, and
# for answers out of the result cache too.  What counts as usage where the model does not exist.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', conf => "gpt2.result_cache_size = '1MB'\n");
my $made = 0;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A prompt that nobody has asked for yet.
sub call
{
	my ($max_len) = @_;
	$made++;
	return "SELECT 'made' FROM gpt_completions('The printer $made', $max_len, model => 'demo');";
}

sub made_ok { return is(ask($_[0], call($_[1])), 'made', $_[2]) }

sub refused_ok
{
	my ($session, $max_len, $limit, $what) = @_;
	return like(ask($session, call($max_len)),
		qr/ERROR:  53400: .* role "\w+": gpt2\.max_tokens_per_call is $limit\n/, $what);
}

# ---- another database of the same role ----

sql('CREATE DATABASE free');
$node->safe_psql('free', 'CREATE EXTENSION gpt2');
sql('CREATE ROLE alice LOGIN;'
	  . 'ALTER ROLE alice IN DATABASE postgres SET gpt2.max_tokens_per_call = 20');

my $limited = open_session($node, 'postgres', user => 'alice');
my $free = open_session($node, 'free', user => 'alice');

refused_ok($limited, 30, 20, 'a database with a limit');
made_ok($free, 30, 'a database without');
refused_ok($limited, 30, 20, 'does not lift the limit in the other');
made_ok($limited, 10, 'a call within the limit');
made_ok($free, 30, 'does not bring it into the other');

# ---- a superuser's SET ----

my $root = open_session($node);
my $other = open_session($node);

made_ok($other, 30, 'no limit');
ask($root, 'SET gpt2.max_tokens_per_call = 15;');
refused_ok($root, 30, 15, 'a limit that was SET');
made_ok($other, 30, 'holds in its session only');
$root->{in} .= "\\q\n";
$root->{run}->finish;
made_ok($other, 30, 'and not after its end');

# ---- the result cache ----

my $known = "SELECT length(gpt_generate('My order', 30, model => 'demo')) > 0;";
is(ask($other, "SET ROLE alice; $known RESET ROLE;"), 't', 'an answer goes to the cache');
like(ask($limited, $known), qr/ERROR:  53400/, 'a limit holds for an answer out of the cache');
sql('ALTER ROLE alice IN DATABASE postgres RESET gpt2.max_tokens_per_call');
ok(poll_until(sub { ask($limited, $known) eq 't' }), 'without the limit the answer is given');
like(sql("SELECT result_hits FROM gpt_stat_usage WHERE role = 'alice' AND database = 'postgres'"),
	qr/^1$/m, 'out of the cache');

# ---- models that do not exist ----

sql('SELECT gpt_stat_reset()');
ask($limited, "SELECT gpt_generate('a', 1, 'nothing$_');") for 1 .. 3;
is(sql("SELECT coalesce(model, '-'), calls, errors FROM gpt_stat_usage WHERE role = 'alice'"),
	'-|3|3', 'errors with models that do not exist are counted under no name');

$node->stop;
done_testing();
