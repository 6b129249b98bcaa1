#!/usr/bin/perl
#
# run_examples.pl: runs the SQL examples of README.md and docs/*.md, as a reader would paste them.
#
#     scripts/run_examples.pl [FILE ...]
#
# Every block that starts with ```sql is run by psql, from the top of the checkout, with
# ON_ERROR_STOP: the blocks of one file in one session, in a database of their own that is dropped
# at the end.  A block that cannot be run says why in its first line:
#     ```sql no-run: needs a checkout of gpt2
# The server is found through the usual environment variables (PGHOST, PGPORT, PGUSER ...).
#
# psql gets each file with all other lines blanked, so that the line it names is the document's.
# Exit status 0 when every example has run; 1 with file and line of those that have not.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);

my $psql = $ENV{PSQL} || 'psql';
chdir(dirname(dirname(abs_path($0)))) or die "could not change directory: $!\n";
my @files = @ARGV ? @ARGV : ('README.md', sort glob('docs/*.md'));
my $temp = tempdir('gpt2_examples_XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $temp;
my ($run, $left_out, $failed, $number) = (0, 0, 0, 0);

# The lines of a document with everything but its examples blanked; its number of examples, of
# those that are not run, and what is wrong with the document itself.
sub extract
{
	my ($file) = @_;
	my (@lines, @wrong);
	my ($inside, $runs, $examples, $skipped) = (0, 0, 0, 0);

	open(my $in, '<', $file) or die "$file: $!\n";
	while (my $line = <$in>)
	{
		if (!$inside && $line =~ /^```(\w*)(.*)$/)
		{
			my ($language, $rest) = ($1, $2);

			$inside = 1;
			$runs = $language eq 'sql' && $rest =~ /^\s*$/;
			$examples++ if $runs;
			if ($language eq 'sql' && !$runs)
			{
				$skipped++;
				push @wrong, "$file:$.: expected \"```sql\" or \"```sql no-run: reason\""
				  unless $rest =~ /^ no-run: \S/;
			}
			push @lines, "\n";
		}
		elsif ($inside && $line =~ /^```\s*$/)
		{
			# A statement that lacks its semicolon must not go on into the next example.
			push @lines, $runs ? ";\n" : "\n";
			$inside = $runs = 0;
		}
		else
		{
			push @lines, $inside && $runs ? $line : "\n";
		}
	}
	close $in;
	push @wrong, "$file: a block is not closed" if $inside;
	return (\@lines, $examples, $skipped, \@wrong);
}

# Runs a command and returns (exit status, output).
sub capture
{
	my @command = @_;
	my $pid = open(my $out, '-|') // die "could not fork: $!\n";
	if ($pid == 0)
	{
		open(STDERR, '>&', \*STDOUT);
		open(STDIN, '<', '/dev/null');
		exec(@command) or die "could not run $command[0]: $!\n";
	}
	local $/;
	my $text = <$out>;
	close $out;
	return ($?, defined $text ? $text : '');
}

sub sql
{
	my ($command) = @_;
	my ($status, $output) =
	  capture($psql, '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $ENV{PGDATABASE} || 'postgres',
		'-c', $command);
	die "$command\n$output" if $status;
}

foreach my $file (@files)
{
	my ($lines, $examples, $skipped, $wrong) = extract($file);
	my $database = sprintf('gpt2_examples_%d_%d', $$, ++$number);

	$left_out += $skipped;
	$failed += @$wrong;
	print "$_\n" foreach @$wrong;
	next unless $examples;

	my $script = "$temp/$file";
	make_path(dirname($script));
	open(my $out, '>', $script) or die "$script: $!\n";
	print $out @$lines;
	close $out;

	sql("CREATE DATABASE $database");
	my ($status, $output) =
	  capture($psql, '-X', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $script);
	sql("DROP DATABASE $database");
	if ($status)
	{
		$output =~ s/\Q$temp\E\///g;
		my @errors = grep { /^psql:|^DETAIL:|^HINT:|^LINE |^ *\^/ } split(/\n/, $output);
		@errors = ($output) unless @errors;
		print join("\n", @errors), "\n";
		$failed++;
	}
	else
	{
		$run += $examples;
	}
	printf "%s: %d examples %s%s\n", $file, $examples, $status ? 'FAILED' : 'ok',
	  $skipped ? ", $skipped not run" : '';
}

print "$run examples run, $left_out not run, $failed failed\n";
exit($failed ? 1 : 0);
