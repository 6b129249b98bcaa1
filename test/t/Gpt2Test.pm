# Gpt2Test.pm: what the TAP tests share: a server with the extension, a model that is slow enough
# to be interrupted, queries in the background, and polling with limits.
#
# Bounds of time are those of the documentation times SLACK: these tests run on busy machines.
package Gpt2Test;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(SLACK new_server add_slow_model poll_until poll_sql elapsed_ok
  engine_pid supervisor_pid engines_of children_of server_processes process_exists engine_program
  start_query finish_query is_running cancel_queries kill_query open_session ask ask_only hear
  idle_engine wait_generating slow_sql endless_sql start_generating finish_generating
  stands_at_lock
  largest_difference forced_parallel);

use constant SLACK => 20;
use constant LIMIT => $PostgreSQL::Test::Utils::timeout_default || 180;

my $running = 'SELECT live_sequences > 0 FROM gpt_engine_counters()';

sub engine_program
{
	my $dir = `"@{[ $ENV{PG_CONFIG} || 'pg_config' ]}" --pkglibdir`;
	chomp $dir;
	return "$dir/gpt2_engine";
}

# A running server with the extension in database postgres; conf => text of postgresql.conf; initdb =>
# options of initdb.
sub new_server
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(extra => $options{initdb} || []);
	# Cluster.pm switches off the restart after a crash.  What is asked again is to be computed again.
	$node->append_conf('postgresql.conf',
		# Without drafts slow queries stay slow: texts of random weights repeat themselves.
		"restart_after_crash = on\ngpt2.threads = 2\ngpt2.result_cache_size = 0\n"
		  . "gpt2.weight_format = 'f32'\ngpt2.speculation = off\n" . ($options{conf} || ''));
	add_slow_model($node) if $options{slow_model};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION gpt2');
	return $node;
}

# The setting that makes plans parallel without need: 16 renamed it.
sub forced_parallel
{
	my ($node) = @_;
	return $node->pg_version < 16 ? 'force_parallel_mode' : 'debug_parallel_query';
}

# ---- the slow model: random weights over byte tokens, milliseconds a token ----

sub byte_vocabulary
{
	my %printable = map { $_ => 1 } (33 .. 126, 161 .. 172, 174 .. 255);
	my $next = 256;
	my @entries = map {
		sprintf '"\u%04x": %d', $printable{$_} ? $_ : $next++, $_
	} (0 .. 255);

	return '{' . join(', ', @entries, '"<|endoftext|>": 256') . '}';
}

sub add_slow_model
{
	my ($node, $name, $seed, $context, $layers, $width) = @_;
	my $models = $node->data_dir . '/gpt2_models';
	my $folder = "$models/" . ($name || 'slow');

	mkdir $models;
	system_or_bail(engine_program(), 'synth', $folder, '--layer', $layers || 4,
		'--embd', $width || 256, '--head', 4, '--ctx', $context || 8192, '--vocab', 257,
		'--seed', $seed || 7);
	append_to_file("$folder/vocab.json", byte_vocabulary());
	append_to_file("$folder/merges.txt", "#version: 0.2\n");
	return;
}

# About so many tokens' time; the answer is a short text that depends on all of them.
sub slow_sql
{
	my ($tokens, $model) = @_;
	$model ||= 'slow';
	return "SELECT md5(gpt_generate('Once', $tokens, model => '$model'))";
}

# Is at work until it is interrupted, on the fastest machine too.
sub endless_sql
{
	return 'DO $$ BEGIN LOOP PERFORM ' . slow_sql(7000) =~ s/^SELECT //r . '; END LOOP; END $$';
}

# ---- polling ----

# Calls code until it returns true, with a pause between; false after so many seconds.
sub poll_until
{
	my ($code, $seconds, $pause) = @_;
	my $deadline = time + ($seconds || LIMIT);

	while (1)
	{
		my $value = $code->();
		return $value if $value;
		return 0 if time > $deadline;
		select(undef, undef, undef, $pause || 0.02);
	}
}

# Polls a query until it gives `expected` (default t).
sub poll_sql
{
	my ($node, $sql, $expected, $seconds) = @_;
	$expected = 't' unless defined $expected;
	return poll_until(
		sub {
			# Where the server does not answer, psql may end before it has read its input.
			my ($rc, $out) = eval { $node->psql('postgres', $sql) };
			return defined $rc && $rc == 0 && $out eq $expected;
		}, $seconds);
}

sub elapsed_ok
{
	my ($started, $seconds, $what) = @_;
	my $took = time - $started;

	ok($took < $seconds * SLACK, sprintf '%s in %.2f s (bound %g s)', $what, $took, $seconds);
	return;
}

# ---- processes ----

sub engine_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres', 'SELECT engine_pid FROM gpt_info()');
}

sub supervisor_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'gpt2 supervisor'");
}

# [name, parent] of a process, or nothing.
sub process_stat
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return;
	my $line = <$file>;
	close $file;
	return unless defined $line && $line =~ /^\d+ \((.*)\) (\S) (\d+)/s;
	return if $2 eq 'Z' || $2 eq 'X';
	return ($1, $3);
}

sub process_exists
{
	my ($pid) = @_;
	my @stat = process_stat($pid);
	return scalar @stat;
}

sub postmaster_of
{
	my ($node) = @_;
	return (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
}

sub all_processes
{
	return map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# The postmaster and its children.
sub server_processes
{
	my ($node) = @_;
	my $postmaster = postmaster_of($node);

	return ($postmaster,
		grep { my @stat = process_stat($_); @stat && $stat[1] == $postmaster } all_processes());
}

# Children of a process that have a name.
sub children_of
{
	my ($parent, $wanted) = @_;
	my @children;

	for my $pid (all_processes())
	{
		my ($name, $of) = process_stat($pid);
		push @children, $pid if defined $name && $name eq $wanted && $of == $parent;
	}
	return @children;
}

# The engines below this server's postmaster.  (Who is not root cannot see more of an engine than
# its name and parent.)
sub engines_of
{
	my ($node) = @_;
	my $postmaster = postmaster_of($node);
	my @engines;

	for my $pid (all_processes())
	{
		my ($name, $parent) = process_stat($pid);
		next unless defined $name && $name eq 'gpt2_engine';
		my (undef, $grandparent) = process_stat($parent);
		push @engines, $pid if defined $grandparent && $grandparent == $postmaster;
	}
	return @engines;
}

# ---- queries in the background ----

# Runs statements in one session; finish_query gives (exit status, output, errors).
sub start_query
{
	my ($node, @statements) = @_;
	my %options = ref $statements[0] ? %{ shift @statements } : ();
	my $query = { out => '', err => '' };
	my @command = ('psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d',
		$node->connstr($options{db} || 'postgres'));

	push @command, '-c', $_ for @statements;
	$query->{run} = IPC::Run::start(\@command, '<', \undef, '>', \$query->{out}, '2>',
		\$query->{err}, IPC::Run::timeout(LIMIT));
	return $query;
}

sub finish_query
{
	my ($query) = @_;
	$query->{run}->finish;
	chomp(my $out = $query->{out});
	return ($query->{run}->result(0), $out, $query->{err});
}

# False once it has ended: nobody else reads what it says.
sub is_running
{
	my ($query) = @_;
	$query->{run}->pump_nb if $query->{run}->pumpable;
	return $query->{run}->pumpable;
}

# Those of other sessions that are at work on what is LIKE a pattern.
sub cancel_queries
{
	my ($node, $pattern) = @_;
	$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM pg_stat_activity'
		  . " WHERE query LIKE '$pattern' AND state = 'active' AND pid <> pg_backend_pid()");
	return;
}

# A query that is at work until finish_generating tells it by a file: it asks for the text that a SELECT
# gives again and again, and gives it.  So whatever a test does after wait_generating is done under it,
# on fast machines and busy ones.
sub start_generating
{
	my ($node, $sql) = @_;

	unlink told_file($node);
	return start_query($node, <<"END", 'SELECT pg_temp.generating()');
CREATE FUNCTION pg_temp.generating() RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    wanted text := ($sql)::text;
BEGIN
    WHILE (pg_stat_file('told', true)).size IS NULL LOOP
        IF ($sql)::text <> wanted THEN
            RAISE 'another text';
        END IF;
    END LOOP;
    RETURN wanted;
END \$\$
END
}

sub finish_generating
{
	my ($node, $query) = @_;

	append_to_file(told_file($node), '');
	return finish_query($query);
}

sub told_file
{
	my ($node) = @_;
	return $node->data_dir . '/told';
}

# The client vanishes: kill -9.  Given the node, where a server cannot look for its client (before 14) the
# session that makes 7000 tokens is ended too, as it would not end by itself.
sub kill_query
{
	my ($query, $node) = @_;
	$query->{run}->signal('KILL');
	$query->{run}->finish;
	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
		  . " WHERE query ~ '7000' AND state = 'active' AND pid <> pg_backend_pid()")
	  if $node && $node->pg_version < 14;
	return;
}

# A session that stays open; `ask` runs statements in it and gives what they print.  user => name.
sub open_session
{
	my ($node, $database, %options) = @_;
	my $session = { in => '', out => '', asked => 0 };

	$session->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d',
			$node->connstr($database || 'postgres'),
			$options{user} ? ('-U', $options{user}) : () ],
		'<', \$session->{in}, '>', \$session->{out}, '2>&1', IPC::Run::timeout(LIMIT));
	return $session;
}

sub ask
{
	my ($session, $sql) = @_;

	ask_only($session, $sql);
	return hear($session);
}

# The two halves of `ask`, for a test that must do something in between.
sub ask_only
{
	my ($session, $sql) = @_;

	$session->{out} = '';
	$session->{in} .= "$sql\n\\echo done-" . ++$session->{asked} . "\n";
	$session->{run}->pump_nb;
	return;
}

sub hear
{
	my ($session) = @_;
	my $marker = "done-$session->{asked}";

	$session->{run}->pump until $session->{out} =~ /^$marker$/m;
	(my $answer = $session->{out}) =~ s/^$marker\n//m;
	chomp $answer;
	return $answer;
}

# ---- numbers ----

# Of two lists of the same length; more than any number where they are not.
sub largest_difference
{
	my ($x, $y) = @_;
	my $largest = 0;

	return 9**9**9 if @$x != @$y;
	for my $i (0 .. $#$x)
	{
		my $d = abs($x->[$i] - $y->[$i]);
		$largest = $d if $d > $largest;
	}
	return $largest;
}

# ---- what the engine is doing ----

sub wait_generating
{
	my ($node) = @_;
	my $look = "DO \$\$ BEGIN
		FOR i IN 1 .. 999 LOOP
			IF ($running) THEN RETURN; END IF;
			PERFORM pg_sleep(0.002);
		END LOOP;
		RAISE 'nothing runs';
	END \$\$";

	return poll_until(sub { ($node->psql('postgres', $look))[0] == 0 });
}

# Somebody stands before an advisory lock that the test holds, and goes on when it lets go.
sub stands_at_lock
{
	my ($node) = @_;
	return poll_sql($node,
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
}

# Sequences and KV blocks are given back (and no request but this one is alive).
sub idle_engine
{
	my ($node, $seconds) = @_;
	return poll_sql($node,
		'SELECT live_requests <= 1 AND live_sequences = 0 AND kv_blocks_used = 0'
		  . ' FROM gpt_engine_counters()', 't', $seconds);
}

1;
