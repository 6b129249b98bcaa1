# The calls of the table of drivers in docs/cookbook.md, made by the drivers themselves, as far as
# they are installed: parameters, rows, warnings, SQLSTATEs, a stream, a cancel.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $scripts = "$FindBin::RealBin/drivers";
my $jar = '/usr/share/java/postgresql.jar';

sub runs
{
	my ($out, $err);
	return IPC::Run::run(\@_, '>', \$out, '2>', \$err);
}

sub in_path
{
	my ($program) = @_;
	return grep { -x "$_/$program" } split(/:/, $ENV{PATH});
}

# Debian package, whether it is there, command.
my @drivers = (
	{
		name => 'psycopg2', package => 'python3-psycopg2',
		there => sub { in_path('python3') && runs('python3', '-c', 'import psycopg2') },
		command => [ 'python3', "$scripts/psycopg2_calls.py" ],
	},
	{
		name => 'psycopg', package => 'python3-psycopg',
		there => sub { in_path('python3') && runs('python3', '-c', 'import psycopg') },
		command => [ 'python3', "$scripts/psycopg_calls.py" ],
	},
	{
		name => 'asyncpg', package => 'python3-asyncpg',
		there => sub { in_path('python3') && runs('python3', '-c', 'import asyncpg') },
		command => [ 'python3', "$scripts/asyncpg_calls.py" ],
	},
	{
		name => 'node-postgres', package => 'node-pg',
		there => sub { in_path('node') && runs('node', '-e', "require('pg')") },
		command => [ 'node', "$scripts/node_calls.js" ],
	},
	{
		name => 'JDBC', package => 'libpostgresql-jdbc-java default-jdk-headless',
		there => sub { -e $jar && in_path('javac') },
		url => 1,
		command => [ 'java', '-cp', $jar, "$scripts/JdbcCalls.java" ],
	});

my @there = grep { $_->{there}->() } @drivers;
plan skip_all => 'no driver is installed' unless @there;

my $node = new_server('main', slow_model => 1, conf => "listen_addresses = '127.0.0.1'\n");
my $user = $node->safe_psql('postgres', 'SELECT current_user');
my $rows = $node->safe_psql('postgres',
	"SELECT string_agg(g, '|') FROM gpt_generate('My printer', 5, n => 3, model => 'demo', seed => 1) AS g");
my $text = $node->safe_psql('postgres', "SELECT gpt_generate('My printer', 5, 'demo')");
my $expected = <<"END";
rows: $rows
null: None
warning: 1 of 1 calls of gpt_generate failed, first: the prompt does not fit into the context of model "demo"
error: 22023
stream: $text
cancel: 57014
END

for my $driver (@drivers)
{
  SKIP:
	{
		skip "$driver->{name} is not installed (Debian package $driver->{package})", 1
		  unless grep { $_ == $driver } @there;
		my @place = $driver->{url}
		  ? ('jdbc:postgresql://127.0.0.1:' . $node->port . '/postgres', $user)
		  : ($node->host, $node->port, $user);
		my ($out, $err);

		IPC::Run::run([ @{ $driver->{command} }, @place ], '>', \$out, '2>', \$err,
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		is($out, $expected, "$driver->{name}") or diag($err);
	}
}

# The program in docs/cookbook.md.
SKIP:
{
	skip 'psycopg is not installed', 1 unless grep { $_->{name} eq 'psycopg' } @there;
	my ($program) =
	  slurp_file("$FindBin::RealBin/../../docs/cookbook.md") =~ /^```python\n(.*?)^```$/ms;
	my ($out, $err);

	$node->safe_psql('postgres', 'CREATE TABLE tickets (id int PRIMARY KEY, body text, summary text);'
		  . "INSERT INTO tickets SELECT i, 'My kettle leaks, order ' || i FROM generate_series(1, 30) AS i");
	my $made = $node->safe_psql('postgres',
		"SELECT gpt_generate('I bought a Wozan kettle. Since', 20, 'demo')");
	local @ENV{qw(PGHOST PGPORT)} = ($node->host, $node->port);
	IPC::Run::run([ 'python3', '-c', $program ], '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	is($out, "$made\n20 done, 0 failed, 10 to do\n", 'the example of the cookbook') or diag($err);
}

$node->stop('fast');
done_testing();
