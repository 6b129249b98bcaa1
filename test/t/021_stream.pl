# gpt_stream: tokens that come one at a time, from an engine that this test plays and from a real
# one; cursors that are left; an engine that dies in the middle; the log of calls that took long.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use FakeEngine;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant STREAM_FLAG => 16;

my $node = new_server('main');
listen_as_engine($node);

my $declare = 'DECLARE c CURSOR FOR SELECT (s).pos, (s).piece FROM'
  . " (SELECT gpt_stream('abc', 9, 'x') AS s) AS q;";

sub token { return pack('L L d', $_[0], 100 + $_[0], -0.5) . text($_[1]) }

# An answer with one sequence of so many tokens.
sub completions
{
	my ($n) = @_;
	return pack('L L L Q Q Q L', 1, 1, 0, 0, 1000, 0, 0)
	  . pack('L d L', 1, -0.5 * $n, $n) . pack("L$n", map { 100 + $_ } 0 .. $n - 1) . text('t');
}

# A session with an open cursor that wants its first row: (session, socket, id).
sub open_cursor
{
	my $session = open_session($node);

	ask($session, "BEGIN; $declare");
	ask_only($session, 'FETCH 1 FROM c;');
	my $socket = welcome(accept_backend());
	my ($type, $id, $payload) = take($socket);
	is($type, $type{GENERATE}, 'a cursor asks for a text');
	my (undef, undef, undef, undef, $flags) = unpack 'L/a L/a L L L', $payload;
	ok($flags & STREAM_FLAG, 'and for its tokens');
	return ($session, $socket, $id);
}

sub fetch { return ask($_[0], "FETCH $_[1] FROM c;") }

# ---- tokens as they come ----

{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	is(hear($session), '0|a', 'the first token comes before there is another');
	put($socket, 'STREAM', $id, token(1, ''));
	put($socket, 'STREAM', $id, token(2, "\xc3\xa9"));
	is(fetch($session, 2), "1|\n2|\xc3\xa9", 'two that have come meanwhile');
	ask_only($session, 'FETCH ALL FROM c;');
	put($socket, 'STREAM', $id, token(3, 'd'));
	put($socket, 'COMPLETIONS', $id, completions(4));
	is(hear($session), '3|d', 'the last one');
	is(fetch($session, 1), '', 'nothing behind it');
	is(ask($session, 'COMMIT; SELECT 1;'), '1', 'the session is good');
}

# ---- a cursor that is left ----

for my $end ('CLOSE c;', 'COMMIT;', 'ROLLBACK;')
{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	hear($session);
	# Another request of the session is none of the cursor's business.
	ask_only($session, "SELECT gpt_count_tokens('abc', 'x');");
	my ($type, $other) = take($socket);
	is($type, $type{TOKENIZE}, 'a request beside the cursor');
	put($socket, 'STREAM', $id, token(1, 'b'));
	put($socket, 'TOKENS', $other, pack('L L', 3, 0));
	is(hear($session), '3', 'is answered');
	ask($session, $end);
	is(join(' ', (take($socket))[0, 1]), "$type{CANCEL} $id", "$end cancels the stream");
}
{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	hear($session);
	ask($session, "SAVEPOINT s; SET LOCAL statement_timeout = 200; FETCH 1 FROM c;");
	is(join(' ', (take($socket))[0, 1]), "$type{CANCEL} $id", 'a timeout cancels the stream');
	like(ask($session, 'ROLLBACK TO s; FETCH 1 FROM c;'), qr/ERROR:  (55000|34000)/,
		'the cursor is dead then');
	is(ask($session, 'ROLLBACK; SELECT 1;'), '1', 'the session is good');
}

# ---- an engine that dies ----

{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	hear($session);
	put($socket, 'STREAM', $id, token(1, 'b'));
	close $socket;
	ask_only($session, 'FETCH ALL FROM c;');
	$socket = welcome(accept_backend());
	is(join(' ', (take($socket))[0, 1]), "$type{GENERATE} $id", 'the request is sent again');
	put($socket, 'STREAM', $id, token($_, qw(a b c d)[$_])) for 0 .. 3;
	put($socket, 'COMPLETIONS', $id, completions(4));
	is(hear($session), "1|b\n2|c\n3|d", 'tokens that were there are not given twice');
}

# The next one makes another text (the model has changed meanwhile): not half of each.
for my $other ([ token(0, 'a'), token(1, 'B'), token(2, 'c') ],
	[ token(0, 'a'), pack('L L d', 1, 101, -0.25) . text('b') ],
	[ token(0, 'a') ])
{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	hear($session);
	put($socket, 'STREAM', $id, token(1, 'b'));
	is(fetch($session, 1), '1|b', 'another text: what came before');
	close $socket;
	ask_only($session, 'FETCH ALL FROM c;');
	$socket = welcome(accept_backend());
	is(join(' ', (take($socket))[0, 1]), "$type{GENERATE} $id", 'another text: sent again');
	put($socket, 'STREAM', $id, $_) for @$other;
	put($socket, 'COMPLETIONS', $id, completions(1)) if @$other == 1;
	like(hear($session), qr/ERROR:  58000: the text cannot be continued/, 'another text: an error');
	is(join(' ', (take($socket))[0, 1]), "$type{CANCEL} $id", 'another text: cancelled')
	  if @$other > 1;
	is(ask($session, 'ROLLBACK; SELECT 1;'), '1', 'the session is good');
}

# ---- an engine that breaks the rules ----

{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	put($socket, 'ERROR', $id, '53400' . text('enough') . text('') . text(''));
	is(hear($session), '0|a', 'tokens before an error are given out');
	like(fetch($session, 1), qr/ERROR:  53400: enough/, 'then the error');
}
{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	put($socket, 'STREAM', $id, token(2, 'c'));
	is(hear($session), '0|a', 'tokens before a gap are given out');
	like(fetch($session, 1), qr/ERROR:  53200/, 'a gap is lack of memory');
	is(join(' ', (take($socket))[0, 1]), "$type{CANCEL} $id", 'a gap cancels the stream');
}
{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, token(0, 'a'));
	put($socket, 'COMPLETIONS', $id, completions(2));
	is(hear($session), '0|a', 'a token too few: those that are there');
	like(fetch($session, 1), qr/ERROR:  XX000: malformed/, 'a token too few: an error');
}
{
	my ($session, $socket, $id) = open_cursor();

	put($socket, 'STREAM', $id, 'abc');
	$socket = welcome(accept_backend());
	is(join(' ', (take($socket))[0, 1]), "$type{GENERATE} $id", 'no token at all: another engine');
	put($socket, 'STREAM', $id, token(0, 'a'));
	is(hear($session), '0|a', 'no token at all: the next engine is right');
}

FakeEngine::stop_listening();
$node->stop;

# ---- a real engine ----

$node = new_server('real', slow_model => 1, conf => "gpt2.log_min_duration = 0\n");

sub slow_cursor
{
	my $session = open_session($node);

	ask($session, 'BEGIN; DECLARE c CURSOR FOR SELECT (s).piece FROM'
		  . " (SELECT gpt_stream('Once', 4000, model => 'slow') AS s) AS q;");
	return $session;
}

my $expected = $node->safe_psql('postgres', "SELECT gpt_generate('Once', 40, model => 'slow')");
my $counters = 'SELECT live_sequences FROM gpt_engine_counters();';

for my $end ('CLOSE c;', 'ROLLBACK;', 'vanishes')
{
	my $session = slow_cursor();

	fetch($session, 3);
	is(ask($session, $counters), '1', "$end: the rest is being made");
	is(ask($session, "SELECT length(gpt_generate('Once', 2, model => 'slow')) > 0;"), 't',
		"$end: another call beside it");
	my $started = time;
	if ($end eq 'vanishes')
	{
		kill_query($session);
	}
	else
	{
		ask($session, $end);
	}
	ok(idle_engine($node), "$end: the engine is idle");
	elapsed_ok($started, 1, "$end: the sequence ends");
}
{
	my $session = open_session($node);

	ask($session, 'BEGIN; DECLARE c CURSOR FOR SELECT (s).piece FROM'
		  . " (SELECT gpt_stream('Once', 40, model => 'slow') AS s) AS q;");
	my $text = fetch($session, 5) =~ s/\n//gr;
	kill 'KILL', engines_of($node);
	$text .= fetch($session, 'ALL') =~ s/\n//gr;
	(my $lines = $expected) =~ s/\n//g;
	is($text, $lines, 'kill -9 of the engine in the middle: the same text');
}

# ---- the log of calls ----

my $log = slurp_file($node->logfile);
like($log, qr/LOG:  gpt2 call took [\d.]+ ms, [\d.]+ ms of it queued: model "slow", \d+ prompt tokens \(\d+ cached\), 40 new tokens in 1 sequences/,
	'a call that took long is logged');
my @lines = grep { /STATEMENT|CONTEXT/ } split /\n/, $log;
is(join("\n", grep { /Once/ } @lines), '', 'without its text');
$node->append_conf('postgresql.conf', 'gpt2.log_min_duration = 1h');
$node->reload;
my $before = -s $node->logfile;
ok(poll_sql($node, "SELECT gpt_count_tokens('') = 0 AND"
	  . " current_setting('gpt2.log_min_duration') = '1h'"), 'a longer time is set');
$node->safe_psql('postgres', "SELECT gpt_generate('Once', 2, model => 'slow')");
unlike(substr(slurp_file($node->logfile), $before), qr/gpt2 call took/,
	'a shorter call is not logged');

$node->stop;
done_testing();
