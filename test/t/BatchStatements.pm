# BatchStatements.pm: statements that are run with many rows in flight and row by row, and must give
# the same: those of batch_shapes.sql, batch_cases.sql and batch_newer.sql, and generated ones.  The
# tables are those of batch_setup.sql, but for batch_cases.sql and batch_newer.sql.
#
# A generated statement has a definite result: it is ordered by a key, or by all that it returns,
# unless it reads one table, whose rows come in the same order each time.
package BatchStatements;

use strict;
use warnings;

use Exporter 'import';
use FindBin;

our @EXPORT = qw(batch_setup hand_written batch_cases newer_cases generated);

sub slurp
{
	my ($name) = @_;
	open my $file, '<', "$FindBin::RealBin/$name" or die "could not open $name: $!";
	local $/ = undef;
	return <$file>;
}

sub batch_setup { return slurp('batch_setup.sql') }

# The paragraphs of a file that are no comment, with the name of a setting for FORCED_PARALLEL.
sub statements_of
{
	my ($file, $parallel) = @_;

	return grep { !/^--/ && /\S/ } split /\n\n+/, slurp($file) =~ s/FORCED_PARALLEL/$parallel/gr;
}

sub hand_written { return statements_of('batch_shapes.sql', @_) }

sub batch_cases { return map { s/\s+\z//r } statements_of('batch_cases.sql', @_) }

# Those that a server of this version knows.
sub newer_cases
{
	my ($version) = @_;

	return map { m{^/\* (\d+) \*/ (.*?)\s*\z}s && $1 <= $version ? $2 : () }
	  statements_of('batch_newer.sql', '');
}

# ---- generated ----

# Perl's own rand differs between versions: this is the same everywhere.
my $state;

sub draw
{
	my ($n) = @_;
	$state = ($state * 1103515245 + 12345) & 0x7fffffff;
	return ($state >> 8) % $n;
}

sub pick { return $_[ draw(scalar @_) ] }

# A text over the columns of the tables t (alias a) and, where there is one, u (alias b).
sub text_of
{
	my ($joined) = @_;
	my @texts = ('a.body', 'a.alt', "a.body || a.id", "coalesce(a.alt, 'none')", "'same'",
		'left(a.body, 1 + a.id % 3)', "fails_at(a.id, " . (5 + draw(60)) . ')');
	push @texts, 'b.word', 'a.body || b.word' if $joined;
	return pick(@texts);
}

sub call_of
{
	my ($joined, $depth) = @_;
	my $text = $depth && draw(4) == 0 ? call_of($joined, 0) : text_of($joined);
	return pick("gpt_generate($text, 2)", "gpt_generate($text, 2)", "gpt_summarize($text, 2)",
		"gpt_generate($text, 3, temperature => 1, seed => a.id)",
		"gpt_generate($text, 1 + a.id % 3)",
		"gpt_generate($text, 2, temperature => 1)");
}

sub value_of
{
	my ($joined) = @_;
	my $call = call_of($joined, 1);
	my $other = call_of($joined, 0);
	return pick($call, $call, "CASE WHEN a.flag THEN $call ELSE $other END",
		"coalesce(a.alt, $call)", "upper($call) || a.id", "coalesce($call, $other)",
		"CASE WHEN a.grp > 1 THEN $call WHEN a.id > 30 THEN a.alt END");
}

sub filter_of
{
	my ($joined) = @_;
	my $call = call_of($joined, 0);
	return pick('true', 'true', "a.id < " . (3 + draw(40)), "$call LIKE '%e%'",
		"a.flag AND $call <> ''", "a.flag OR $call LIKE '%a%'",
		"$call IS NOT NULL AND a.grp <> 1");
}

sub from_of
{
	my ($joined) = @_;
	return pick('t AS a', 't AS a', '(SELECT * FROM t OFFSET 0) AS a') unless $joined;
	return pick('t AS a JOIN u AS b ON a.id = b.id', 't AS a LEFT JOIN u AS b ON a.id = b.id',
		't AS a JOIN u AS b ON a.grp = b.id',
		't AS a, LATERAL (SELECT * FROM u WHERE u.id < a.grp) AS b',
		"(SELECT *, gpt_generate(alt, 2) AS g FROM t) AS a JOIN u AS b ON a.id = b.id");
}

sub limit_of { return draw(3) ? '' : ' LIMIT ' . draw(9) . (draw(3) ? '' : ' OFFSET ' . draw(4)) }

sub query
{
	my $joined = draw(2);
	my $from = from_of($joined);
	my $where = filter_of($joined);
	my $value = value_of($joined);
	my $key = $joined ? 'a.id, b.id' : 'a.id';
	my $limit = limit_of();

	return pick(
		"SELECT $key, $value, @{[ value_of($joined) ]} FROM $from WHERE $where ORDER BY $key$limit",
		"SELECT $key, $value FROM $from WHERE $where ORDER BY a.grp, $key$limit",
		"SELECT a.grp, count($value), max($value) FROM $from WHERE $where GROUP BY a.grp ORDER BY 1",
		"SELECT a.grp, string_agg($value, '|' ORDER BY $key) FROM $from GROUP BY 1 ORDER BY 1$limit",
		"SELECT * FROM (SELECT a.id, $value AS x FROM $from WHERE $where) AS q ORDER BY 1, 2$limit",
		"WITH c AS (SELECT a.id, $value AS x FROM $from) SELECT * FROM c WHERE id > 9 ORDER BY 1, 2",
		"SELECT a.id, $value FROM t AS a" . ($joined ? ', u AS b WHERE b.id = a.id' : '') . $limit);
}

sub change
{
	my $value = value_of(0);
	my $where = filter_of(0);
	my $after = 'SELECT id, grp, alt FROM t ORDER BY id';

	return pick(
		"UPDATE t AS a SET alt = $value WHERE $where; $after",
		"UPDATE t AS a SET alt = $value WHERE $where RETURNING a.id, " . value_of(0),
		"UPDATE t AS a SET alt = @{[ value_of(1) ]} FROM u AS b WHERE a.id = b.id; $after",
		"DELETE FROM t AS a WHERE $where; $after",
		"INSERT INTO sink SELECT a.id, $value FROM t AS a WHERE $where; SELECT * FROM sink ORDER BY 1",
		"CREATE TABLE made AS SELECT a.id, $value AS x FROM t AS a; SELECT * FROM made ORDER BY 1",
		"WITH w AS (UPDATE t AS a SET alt = a.body WHERE $where RETURNING *) "
		  . "SELECT a.id, $value FROM w AS a ORDER BY 1");
}

sub cursor
{
	my $query = query();
	my @fetches = map { pick('FETCH 1', 'FETCH 3', 'FETCH 7', 'MOVE 2') . ' FROM c' } 1 .. 3;
	return join '; ', "DECLARE c CURSOR FOR $query", @fetches, 'FETCH ALL FROM c', 'CLOSE c';
}

# n statements; the same ones each time.
sub generated
{
	my ($n) = @_;
	$state = 20;
	return map {
		'SELECT setseed(0.5); ' . pick(query(), query(), query(), change(), cursor())
	} 1 .. $n;
}

1;
