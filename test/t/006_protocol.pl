# The library against an engine that this test plays: every answer that breaks the protocol is an
# error of the one request, and the session stays good.
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

my %level = (NOTICE => 3, WARNING => 4);

my $node = new_server('main');
my $call = "SELECT gpt_count_tokens('abc', 'x')";

listen_as_engine($node);

# One session calls twice; the first call gets what `code` does with (socket, id), the second the
# right answer.  Gives the errors.
sub answer
{
	my ($what, $code) = @_;
	my $query = start_query($node, $call, $call);
	my $socket = welcome(accept_backend());
	my (undef, $id) = take($socket);

	$socket = $code->($socket, $id) || $socket;
	my ($type, $next) = take($socket);
	($type, $next) = take($socket) if $type == $type{CANCEL};
	put($socket, 'TOKENS', $next, pack('L L', 7, 0));
	my ($rc, $out, $err) = finish_query($query);
	is((split /\n/, $out)[-1], 7, "$what: the next call");
	cmp_ok($next, '>', $id, "$what: ids are not used twice");
	return ($err, $out);
}

my ($err, $out);

# Handshake.
for my $refusal (
	[ 'another major', sub { welcome($_[0], 2) }, qr/ERROR:  55000: .*protocol 2/ ],
	[ 'an error', sub { put($_[0], 'ERROR', 0, '55000' . text('too old') . text('d') . text('h')) },
		qr/ERROR:  55000: too old\nDETAIL:  d\nHINT:  h/ ])
{
	my ($what, $code, $expected) = @$refusal;
	my $query = start_query($node, $call, 'SELECT 1');
	$code->(accept_backend());
	($err, $out) = (finish_query($query))[ 2, 1 ];
	like($err, $expected, "handshake, $what");
	is($out, '1', "handshake, $what: the session is good");
}
{
	# Broken welcomes are taken for an engine that has just ended.
	my $query = start_query($node, $call);
	put(accept_backend(), 'WELCOME', 0, 'ab');
	close(accept_backend());
	put(accept_backend(), 'TOKENS', 0, '');
	my $socket = welcome(accept_backend());
	put($socket, 'TOKENS', (take($socket))[1], pack('L L', 3, 0));
	is((finish_query($query))[1], 3, 'handshake: tried again until it is right');
}
{
	# No welcome at all.
	my $query = start_query($node, $call);
	my $socket = accept_backend();
	cancel_queries($node, '%gpt_count_tokens%');
	like((finish_query($query))[2], qr/ERROR:  57014/, 'handshake: interruptible');
}

# Answers.
($err, $out) = answer('right answer',
	sub { put($_[0], 'TOKENS', $_[1], pack('L L', 5, 0)); return });
is($err, '', 'right answer: no error');
is($out, "5\n7", 'right answer: both');

($err) = answer('error', sub {
	put($_[0], 'ERROR', $_[1], '53400' . text('m') . text('') . text(''));
	return;
});
like($err, qr/ERROR:  53400: m\n/, 'error: SQLSTATE and message');
unlike($err, qr/DETAIL|HINT/, 'error: no empty detail or hint');

($err) = answer('error without memory', sub {
	put($_[0], 'ERROR', $_[1], '53200' . text('') . text('') . text(''));
	return;
});
like($err, qr/ERROR:  53200: out of memory/, 'error without memory: a message');

for my $state ('00000', '0100a', 'ab\0cd', '')
{
	($err) = answer('bad state', sub {
		put($_[0], 'ERROR', $_[1], $state . text('m') . text('') . text(''));
		return;
	});
	like($err, qr/ERROR:  XX000: /, 'bad state: XX000');
}

($err) = answer('other type',
	sub { put($_[0], 'TEXT', $_[1], text('abc')); return });
like($err, qr/ERROR:  XX000: unexpected answer/, 'other type: XX000');

($err) = answer('short answer',
	sub { put($_[0], 'TOKENS', $_[1], 'ab'); return });
like($err, qr/ERROR:  XX000: malformed answer/, 'short answer: XX000');

# Notices come before the answer; what belongs to nobody is dropped.
($err, $out) = answer('notices', sub {
	my ($socket, $id) = @_;
	put($socket, 'TOKENS', $id + 1000, pack('L L', 1, 0));
	put($socket, 'NOTICE', $id + 1000, pack('L', $level{NOTICE}) . text('not mine') . text(''));
	put($socket, 'NOTICE', $id, pack('L', $level{NOTICE}) . text('first') . text('look'));
	put($socket, 'NOTICE', $id, pack('L', $level{WARNING}) . text('second') . text(''));
	put($socket, 'NOTICE', $id, 'x');
	put($socket, 'TOKENS', $id, pack('L L', 5, 0));
	put($socket, 'TOKENS', $id, pack('L L', 6, 0));
	return;
});
like($err, qr/NOTICE:  00000: first\nHINT:  look\n.*WARNING:  01000: second\n/s, 'notices');
unlike($err, qr/not mine/, 'notices: only of this request');
is($out, "5\n7", 'notices: the first answer counts');

# An answer in single bytes.
($err, $out) = answer('single bytes', sub {
	my ($socket, $id) = @_;
	my $frame = pack('L S S Q L L', 8, $type{TOKENS}, 0, $id, 5, 0);
	for my $byte (split //, $frame)
	{
		print $socket $byte;
		$socket->flush;
	}
	return;
});
is($out, "5\n7", 'single bytes: read');

# What breaks framing, and a closed socket, count as the end of the engine: the request is sent
# again over another connection, with the same id.
for my $break (
	[ 'huge frame', sub { print { $_[0] } pack('L S S Q', 0xFFFFFFFF, $type{TOKENS}, 0, $_[1]) } ],
	[ 'unknown type', sub { put($_[0], 99, $_[1], 'abc') } ],
	[ 'request to a backend', sub { put($_[0], 'TOKENIZE', $_[1], 'abc') } ],
	[ 'half a frame', sub { print { $_[0] } 'abcdef'; } ],
	[ 'end', sub { } ])
{
	my ($what, $code) = @$break;

	($err, $out) = answer($what, sub {
		my ($socket, $id) = @_;
		$code->($socket, $id);
		$socket->flush;
		close $socket if $what eq 'half a frame' || $what eq 'end';
		my $second = welcome(accept_backend());
		my ($type, $again) = take($second);
		is("$type $again", "$type{TOKENIZE} $id", "$what: sent again");
		put($second, 'TOKENS', $again, pack('L L', 5, 0));
		return $second;
	});
	is($out, "5\n7", "$what: both answers");
	is($err, '', "$what: no error");
}

# A cancel is a message, and the answer that comes all the same is dropped.
{
	my $query = start_query($node, $call, $call);
	my $socket = welcome(accept_backend());
	my (undef, $id) = take($socket);
	cancel_queries($node, '%gpt_count_tokens%');
	my ($type, $canceled) = take($socket);

	is("$type $canceled", "$type{CANCEL} $id", 'cancel: a message');
	put($socket, 'TOKENS', $id, pack('L L', 5, 0));
	(undef, $id) = take($socket);
	put($socket, 'TOKENS', $id, pack('L L', 6, 0));
	($out, $err) = (finish_query($query))[ 1, 2 ];
	like($err, qr/ERROR:  57014/, 'cancel: 57014');
	is($out, 6, 'cancel: the late answer is dropped');
}

# A session that idles while the engine is replaced connects again without an error, and its
# request has seen no death.
{
	my $session = open_session($node);

	$session->{in} .= "$call;\n\\echo first\n";
	$session->{run}->pump_nb;
	my $socket = welcome(accept_backend());
	put($socket, 'TOKENS', (take($socket))[1], pack('L L', 5, 0));
	$session->{run}->pump until $session->{out} =~ /first/;
	close $socket;
	for my $death (1, 2)
	{
		$session->{in} .= "$call;\n\\echo next $death\n";
		$session->{run}->pump_nb;
		$socket = welcome(accept_backend());
		my (undef, $id) = take($socket);
		if ($death == 2)
		{
			close $socket;
			$socket = welcome(accept_backend());
			(undef, $id) = take($socket);
		}
		put($socket, 'TOKENS', $id, pack('L L', 5 + $death, 0));
		$session->{run}->pump until $session->{out} =~ /next $death/;
		close $socket;
	}
	is($session->{out}, "5\nfirst\n6\nnext 1\n7\nnext 2\n", 'idle: connects again');
}

FakeEngine::stop_listening();
$node->stop;
done_testing();
