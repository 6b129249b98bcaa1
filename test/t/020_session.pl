# What the library tells the engine about who asks: the session's user, its limits (wherever they
# are set, and whatever the session says about them), and memberships.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use FakeEngine;
use Gpt2Test;
use IO::Select;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $call = "SELECT gpt_count_tokens('abc', 'x');";
my %socket;						# of a session
my $next_answer = 1;

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql('CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE hr;'
	  . 'CREATE ROLE root LOGIN SUPERUSER');
my %oid = map { split /\|/ } split /\n/,
  sql("SELECT rolname, oid FROM pg_roles WHERE rolname IN ('alice', 'bob', 'hr', 'root')");

listen_as_engine($node);

# The messages of a call up to its request, which is not answered: the SESSIONs among them as
# "name limits", and the request's (type, id, payload).
sub begin_call
{
	my ($session) = @_;
	my @told;

	ask_only($session, $call);
	$socket{$session} ||= welcome(accept_backend());
	while (my ($type, $id, $payload) = take_any($socket{$session}))
	{
		return (\@told, $type, $id, $payload) if $type != $type{SESSION};
		push @told, session_text($payload);
	}
	die 'the backend went away';
}

sub session_text
{
	my ($oid, $name, @limits) = unpack 'L L/a q3', $_[0];
	is($oid, $oid{$name}, "the OID is that of $name") unless $oid{$name} == $oid;
	return "$name @limits";
}

sub end_call
{
	my ($session, $id) = @_;
	put($socket{$session}, 'TOKENS', $id, pack('L L', ++$next_answer, 0));
	# PostgreSQL warns of values that it does not take.
	my $answer = (split /\n/, hear($session))[-1];
	is($answer, $next_answer, 'the call is answered') if $answer ne $next_answer;
	return;
}

# What the engine is told by a call that it answers.
sub told
{
	my ($session) = @_;
	my ($told, $type, $id) = begin_call($session);
	end_call($session, $id);
	return join ', ', @$told;
}

sub finish
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	$session->{run}->finish;
	delete $socket{$session};
	return;
}

sub told_first
{
	my ($user, @before) = @_;
	my $session = open_session($node, 'postgres', user => $user);
	ask($session, $_) for @before;
	my $told = told($session);
	finish($session);
	return $told;
}

# ---- where limits come from ----

is(told_first('alice'), 'alice -2 -2 -2', 'nothing is set');
sql('ALTER ROLE ALL SET gpt2.max_tokens_per_call = 1;'
	  . 'ALTER ROLE ALL SET gpt2.max_concurrent_sequences = 2;'
	  . 'ALTER ROLE ALL SET gpt2.max_tokens_per_minute = 0');
is(told_first('alice'), 'alice 1 2 0', 'for all');
sql('ALTER DATABASE postgres SET gpt2.max_concurrent_sequences = 22');
is(told_first('alice'), 'alice 1 22 0', 'for the database');
sql('ALTER ROLE alice SET gpt2.max_concurrent_sequences = 222;'
	  . 'ALTER ROLE alice SET gpt2.max_tokens_per_minute = 333');
is(told_first('alice'), 'alice 1 222 333', 'for the role');
sql('ALTER ROLE alice IN DATABASE postgres SET gpt2.max_tokens_per_minute = -1');
is(told_first('alice'), 'alice 1 222 -1', 'for the role in the database');
is(told_first('bob'), 'bob 1 22 0', 'another role');
# Without the library, PostgreSQL takes any text.
sql("ALTER ROLE bob SET gpt2.max_tokens_per_call = 'many';"
	  . 'ALTER ROLE bob SET gpt2.max_concurrent_sequences = -5');
is(told_first('bob'), 'bob 1 22 0', 'values that the settings do not take count as not set');

# ---- what a session cannot do about them ----

{
	local $ENV{PGOPTIONS} = '-c gpt2.max_tokens_per_call=-1 -c gpt2.max_concurrent_sequences=-1';
	is(told_first('alice'), 'alice 1 222 -1', 'PGOPTIONS change nothing');
	is(told_first('root'), 'root 1 22 0', 'PGOPTIONS change nothing, not even for superusers');
}
is(told_first('alice', 'SET gpt2.max_tokens_per_call = -1;'), 'alice 1 222 -1',
	'SET before the library is loaded changes nothing');
is(told_first('root', 'SET gpt2.max_tokens_per_call = 5;'), 'root 5 22 0',
	'SET of a superuser counts, also before the library is loaded');

# ---- an open session ----

{
	my $root = open_session($node, 'postgres', user => 'root');

	is(told($root), 'root 1 22 0', 'told with the first request');
	is(told($root), '', 'told once');
	ask($root, 'SET gpt2.max_tokens_per_call = 7;');
	is(told($root), 'root 7 22 0', 'SET of a superuser');
	ask($root, 'BEGIN; SET LOCAL gpt2.max_tokens_per_call = 8;');
	is(told($root), 'root 8 22 0', 'SET LOCAL of a superuser');
	ask($root, 'ROLLBACK;');
	is(told($root), 'root 7 22 0', 'rolled back');
	ask($root, 'RESET gpt2.max_tokens_per_call;');
	is(told($root), 'root 1 22 0', 'RESET');
	ask($root, 'SET ROLE alice;');
	is(told($root), '', 'SET ROLE changes nothing');
	ask($root, 'RESET ROLE; SET SESSION AUTHORIZATION alice;');
	is(told($root), 'alice 1 222 -1', 'SET SESSION AUTHORIZATION does');
	ask($root, 'RESET SESSION AUTHORIZATION;');
	is(told($root), 'root 1 22 0', 'and back');
	finish($root);
}
{
	my $alice = open_session($node, 'postgres', user => 'alice');
	my $told = told($alice);

	like(ask($alice, 'SET gpt2.max_tokens_per_call = -1;'), qr/ERROR:  42501/,
		'SET once the library is loaded is refused');
	is(told($alice), '', 'a refused SET changes nothing');

	# Without any invalidation: it looks again by itself.
	sql('ALTER ROLE alice SET gpt2.max_concurrent_sequences = 223');
	ok(poll_until(sub { ($told = told($alice)) ne '' }), 'a change reaches an open session');
	is($told, 'alice 1 223 -1', 'a change reaches an open session: its value');

	my (undef, $type, $id) = begin_call($alice);
	sql('ALTER ROLE alice SET gpt2.max_concurrent_sequences = 224');
	my ($next, $next_id, $payload) = take_any($socket{$alice});
	is("$next $next_id", "$type{SESSION} 0", 'a change reaches a session that waits');
	is(session_text($payload), 'alice 1 224 -1', 'a change reaches a session that waits: value');
	sql('ALTER ROLE alice RENAME TO alicia');
	$oid{alicia} = $oid{alice};
	($next, $next_id, $payload) = take_any($socket{$alice});
	is(session_text($payload), 'alicia 1 224 -1', 'and so does a new name');
	end_call($alice, $id);
	sql('ALTER ROLE alicia RENAME TO alice');
	is(told($alice), 'alice 1 224 -1', 'a name that has changed between calls');

	# The next engine knows nothing.
	close $socket{$alice};
	delete $socket{$alice};
	is(told($alice), 'alice 1 224 -1', 'told to the next engine');
	finish($alice);
}

# ---- models for some roles ----

sub roles
{
	my ($token, @names) = @_;
	return pack('Q L', $token, scalar @names) . join('', map { text($_) } @names);
}

# A call that the engine answers with ROLES: the error, or what comes then.
sub asked
{
	my ($session, $roles) = @_;
	my ($told, $type, $id, $payload) = begin_call($session);

	put($socket{$session}, 'ROLES', $id, $roles);
	poll_until(sub {
		$session->{run}->pump_nb;
		return $session->{out} =~ /ERROR/
		  || IO::Select->new($socket{$session})->can_read(0);
	});
	return hear($session) if $session->{out} =~ /ERROR/;
	my ($access_type, $zero, $access) = take_any($socket{$session});
	my ($again_type, $again_id, $again) = take_any($socket{$session});
	is("$access_type $zero", "$type{ACCESS} 0", 'ACCESS comes first');
	is("$again_type $again_id", "$type $id", 'the request comes again');
	is($again, $payload, 'the request is the same');
	end_call($session, $id);
	my ($model, $user, $token) = unpack 'L/a L Q', $access;
	return "$model $user $token";
}

{
	my $alice = open_session($node, 'postgres', user => 'alice');
	my $root = open_session($node, 'postgres', user => 'root');
	my $denied = qr/ERROR:  42501: permission denied for model "x"\nHINT:  .*gpt_grant_model\('x', 'alice'\)/;

	like(asked($alice, roles(5, 'hr')), $denied, 'not a member');
	like(asked($alice, roles(5)), $denied, 'no roles at all');
	like(asked($alice, roles(5, 'nobody', '', 'x' x 64, 'y' x 300, "hr\xe2\x82\xac")), $denied,
		'no such role');
	is(asked($alice, roles(5, 'nobody', 'alice')), "x $oid{alice} 5", 'the role itself');
	is(asked($root, roles(6, 'hr')), "x $oid{root} 6", 'a superuser');

	sql('GRANT hr TO alice');
	is(asked($alice, roles(7, 'nobody', 'hr')), "x $oid{alice} 7", 'a member');
	# The current user counts: its rights are in use.
	ask($root, 'SET ROLE bob;');
	like(asked($root, roles(8, 'hr')), qr/ERROR:  42501: .*'bob'/s, 'SET ROLE');
	ask($root, 'SET ROLE alice;');
	is(asked($root, roles(9, 'hr')), "x $oid{alice} 9", 'SET ROLE to a member');

	# The engine may forget, or have other roles meanwhile.
	my (undef, $type, $id) = begin_call($alice);
	for my $token (10, 11, 12)
	{
		put($socket{$alice}, 'ROLES', $id, roles($token, 'hr'));
		my (undef, undef, $access) = take_any($socket{$alice});
		is((unpack 'L/a L Q', $access)[2], $token, "asked again: token $token");
		is((take_any($socket{$alice}))[1], $id, 'asked again: the same request');
	}
	end_call($alice, $id);

	# A new engine has not been told of any membership, and starts with a request of its own.
	(undef, $type, $id) = begin_call($alice);
	put($socket{$alice}, 'ROLES', $id, roles(13, 'hr'));
	take_any($socket{$alice}) for 1, 2;
	close $socket{$alice};
	$socket{$alice} = welcome(accept_backend());
	is((take_any($socket{$alice}))[0], $type{SESSION}, 'a new engine: SESSION first');
	is(join(' ', (take_any($socket{$alice}))[0, 1]), "$type $id", 'a new engine: then the request');
	end_call($alice, $id);

	# A membership that is taken away: the engine forgets with the next SESSION.
	sql('REVOKE hr FROM alice');
	my ($told) = begin_call($alice);
	is("@$told", 'alice 1 224 -1', 'REVOKE: SESSION again');
	put($socket{$alice}, 'ROLES', $id + 1, roles(14, 'hr'));
	like(hear($alice), $denied, 'REVOKE: not a member any more');

	like(asked($alice, roles(0, 'hr')), qr/ERROR:  XX000: malformed/, 'malformed roles');
	is(told($alice), '', 'the session is good');
	finish($_) for $alice, $root;
}

FakeEngine::stop_listening();
$node->stop;
done_testing();
