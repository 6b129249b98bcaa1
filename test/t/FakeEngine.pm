# FakeEngine.pm: the protocol's frames from the engine's side, for tests that play the engine against
# a server whose supervisor is not started.
package FakeEngine;

use strict;
use warnings;

use Exporter 'import';
use Fcntl qw(F_WRLCK SEEK_SET);
use IO::Select;
use IO::Socket::UNIX;
use Test::More;

our @EXPORT = qw(%type listen_as_engine say_engine_runs text put take take_any accept_backend
  welcome);

# g2_message
our %type = (HELLO => 1, WELCOME => 2, ERROR => 3, NOTICE => 4, ROLES => 7, STREAM => 8, CANCEL => 16,
	DONE => 5, GENERATE => 17, COMPLETIONS => 18, TOKENIZE => 19, TOKENS => 20, TEXT => 22,
	UNLOAD => 24, MODELS => 25, MODEL_LIST => 26, INFO => 27, INFO_ROW => 28, SESSION => 29, ACCESS => 30, REQUESTS => 31,
	REQUEST_LIST => 32, USAGE => 33, USAGE_LIST => 34, USAGE_RESET => 35, ENGINE => 36,
	ENGINE_LIST => 37, RESTART => 38, PROGRESS => 41, PROGRESSES => 42, PROGRESS_LIST => 43,
	PARK => 44);

my $socket_path = 'pg_stat_tmp/gpt2_engine.sock';
my $listener;
my $lock_file;

# Nobody else listens, so the library takes this for the engine.  The path is relative, as the
# library's: absolute ones are too long for a socket's name.
sub listen_as_engine
{
	my ($node) = @_;
	chdir $node->data_dir or die "could not change directory: $!";
	$listener = IO::Socket::UNIX->new(Type => SOCK_STREAM(), Listen => 16,
		Local => $socket_path) or die "could not listen: $!";
	return;
}

# An engine runs, says the supervisor's lock file: an open file description lock of its third byte.
# Without it the views do not ask.
sub say_engine_runs
{
	open $lock_file, '+>', 'pg_stat_tmp/gpt2_engine.lock' or die "could not open: $!";
	my $lock = pack('s s x4 q q i x4', F_WRLCK, SEEK_SET, 2, 1, 0);
	fcntl($lock_file, 37, $lock) or die "could not lock: $!";
	return;
}

sub stop_listening
{
	close $listener;
	unlink $socket_path;
	chdir '/';
	return;
}

# g2_span
sub text { return pack('L/a*', $_[0]) }

sub put
{
	my ($socket, $name, $id, $payload) = @_;
	print $socket pack('L S S Q', length $payload, $type{$name} || $name, 0, $id) . $payload;
	$socket->flush;
	return;
}

sub take_bytes
{
	my ($socket, $n) = @_;
	my $data = '';

	while (length $data < $n)
	{
		return unless IO::Select->new($socket)->can_read(60);
		return unless sysread $socket, $data, $n - length $data, length $data;
	}
	return $data;
}

# (type, id, payload) of the next frame; nothing at the end.
sub take_any
{
	my ($socket) = @_;
	my $head = take_bytes($socket, 16);
	return unless defined $head;
	my ($length, $type, $reserved, $id) = unpack 'L S S Q', $head;
	my $payload = $length ? take_bytes($socket, $length) : '';
	return ($type, $id, $payload);
}

# The same, without those that only say who asks, how far it is, or that nobody waits.
sub take
{
	my ($socket) = @_;
	my @frame;

	do { @frame = take_any($socket) }
	  while (@frame && grep { $frame[0] == $type{$_} } qw(SESSION PROGRESS PARK));
	return @frame;
}

sub accept_backend
{
	die 'no backend connects' unless IO::Select->new($listener)->can_read(60);
	my $socket = $listener->accept or die "could not accept: $!";
	my ($type) = take_any($socket);
	is($type, $type{HELLO}, 'a backend says hello') unless ($type || 0) == $type{HELLO};
	return $socket;
}

sub welcome
{
	my ($socket, $major) = @_;
	put($socket, 'WELCOME', 0, pack('L L L', $major || 1, 0, $$) . text('0.0'));
	return $socket;
}

1;
