# Many rows in flight, as the engine sees them, which this test plays: requests that come together,
# answers that come in another order, notices that all of them get, errors of one of them.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use FakeEngine;
use Gpt2Test;
use Test::More;

my $node = new_server('main');
listen_as_engine($node);

my $select = "SELECT i || ':' || gpt_generate('row ' || i, 9, 'x') FROM generate_series(1, 4) AS i";

# An answer with one sequence of one token.
sub completions
{
	my ($answer) = @_;
	return pack('L L L Q Q Q L', 1, 1, 0, 0, 1000, 0, 0)
	  . pack('L d L L', 1, -0.5, 1, 100) . text($answer);
}

# Message, SQLSTATE.
sub error { return $_[1] . text($_[0]) . text('') . text('') }

# The next n requests: prompt => id.
sub requests
{
	my ($socket, $n) = @_;
	my %ids;

	for (1 .. $n)
	{
		my ($type, $id, $payload) = take($socket);
		return %ids unless defined $type && $type == $type{GENERATE};
		my (undef, $prompt) = unpack 'L/a L/a', $payload;
		$ids{$prompt} = $id;
	}
	return %ids;
}

# A query whose four rows are in flight: (query, socket, prompt => id).
sub start_rows
{
	my $query = start_query($node, @_);
	my $socket = welcome(accept_backend());
	my %ids = requests($socket, 4);

	is(join(',', sort keys %ids), 'row 1,row 2,row 3,row 4', 'four rows are asked for at once');
	return ($query, $socket, %ids);
}

# ---- answers in another order, a notice for all ----

{
	my ($query, $socket, %ids) = start_rows($select);

	put($socket, 'NOTICE', $_, pack('L', 3) . text('the model is being loaded') . text(''))
	  for sort { $a <=> $b } values %ids;
	put($socket, 'COMPLETIONS', $ids{$_}, completions("to $_")) for reverse sort keys %ids;
	my ($status, $out, $err) = finish_query($query);
	is($out, join("\n", map { "$_:to row $_" } 1 .. 4), 'rows come in their order');
	is(scalar(() = $err =~ /NOTICE/g), 1, 'what all of them were told is raised once');
}

# ---- an error of a row ----

{
	my ($query, $socket, %ids) = start_rows($select);

	put($socket, 'ERROR', $ids{'row 3'}, error('not while there are many', '53400'));
	put($socket, 'COMPLETIONS', $ids{$_}, completions("to $_")) for 'row 1', 'row 2', 'row 4';
	my %again = requests($socket, 1);
	is(join(',', keys %again), 'row 3', 'a row that failed because of others is asked for again in its turn');
	put($socket, 'COMPLETIONS', $again{'row 3'}, completions('to row 3'));
	my ($status, $out) = finish_query($query);
	is($out, join("\n", map { "$_:to row $_" } 1 .. 4), 'and may succeed');
}

{
	my ($query, $socket, %ids) = start_rows($select);

	put($socket, 'ERROR', $ids{'row 2'}, error('nothing is to be had', '53400'));
	put($socket, 'COMPLETIONS', $ids{'row 1'}, completions('to row 1'));
	my %again = requests($socket, 1);
	put($socket, 'ERROR', $again{'row 2'}, error('nothing is to be had', '53400'));
	my %cancelled;
	while (my ($type, $id) = take($socket))
	{
		$cancelled{$id} = 1 if $type == $type{CANCEL};
	}
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  53400: nothing is to be had/, 'where it fails again, that is raised');
	is(join(',', sort keys %cancelled), join(',', sort @ids{ 'row 3', 'row 4' }),
		'those behind it are cancelled');
}

# What is wrong with a row itself is wrong the second time too.
{
	my ($query, $socket, %ids) = start_rows($select);

	put($socket, 'ERROR', $ids{'row 3'}, error('this row is bad', '22023'));
	put($socket, 'COMPLETIONS', $ids{$_}, completions("to $_")) for 'row 1', 'row 2', 'row 4';
	my ($status, $out, $err) = finish_query($query);
	like($err, qr/ERROR:  22023: this row is bad/, 'a bad row is not asked for again');
}
{
	my ($query, $socket, %ids) = start_rows("SET gpt2.on_error = 'null'", $select);

	put($socket, 'ERROR', $ids{'row 3'}, error('this row is bad', '54000'));
	put($socket, 'COMPLETIONS', $ids{$_}, completions("to $_")) for 'row 1', 'row 2', 'row 4';
	my ($status, $out, $err) = finish_query($query);
	is($out, "1:to row 1\n2:to row 2\n\n4:to row 4", 'nor where it gives NULL');
	like($err, qr/1 of 4 calls of gpt_generate failed, first: this row is bad/, 'which is told');
}

# ---- equal rows ----

{
	my $query = start_query($node,
		"SELECT gpt_generate('row ' || i % 2, 9, 'x') FROM generate_series(1, 6) AS i");
	my $socket = welcome(accept_backend());
	my %ids = requests($socket, 2);

	put($socket, 'COMPLETIONS', $ids{$_}, completions("to $_")) for keys %ids;
	my ($status, $out) = finish_query($query);
	is($out, join("\n", ('to row 1', 'to row 0') x 3), 'equal rows are asked for once');
	is(scalar(() = take($socket)), 0, 'and nothing else');
}

FakeEngine::stop_listening();
$node->stop;
done_testing();
