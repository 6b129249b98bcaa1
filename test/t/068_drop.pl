# Models and stopped trainings that are dropped in SQL, by whom, and what is refused; what a kill leaves
# of it; whose a model is when it is given away, when roles are renamed and made again; two trainings of
# one name; a base that is replaced under its adapters, or while they are trained; a training that was
# killed when its model was in its place.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Gpt2Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant FILES => 8000;	# of a folder that takes some time to remove
use constant PROGRESS => 'L L L L L L Q L L d d d Q q q Q a256';	# g2_train_progress
use constant { SUM => 1, PHASE => 2, FOLDER => 15, WRITING => 4 };

my $node = new_server('main', slow_model => 1,
	conf => "gpt2.train_threads = 1\nwal_level = replica\nmax_wal_senders = 4\n");
my $data = $node->data_dir;
my $models = "$data/gpt2_models";
my $spools = "$data/base/pgsql_tmp_gpt2/train";
my $small = "tokenizer => 'char', n_layer => 1, n_head => 2, n_embd => 32, context => 32, "
  . 'batch_tokens => 128, learning_rate => 0.01';
my $progress = 'FROM gpt_stat_progress_train WHERE model';

$node->append_conf('pg_hba.conf', "local replication all trust\n");
$node->reload;

sub sql { return $node->safe_psql('postgres', @_) }

# Output and errors of statements, as a role.
sub try_as
{
	my ($role, @sql) = @_;
	my (undef, $out, $err) = finish_query(start_query($node, "SET ROLE $role", @sql));
	return ($out, $err);
}

sub works
{
	my ($role, $sql, $what) = @_;
	my ($out, $err) = try_as($role, $sql);
	unlike($err, qr/ERROR/, $what);
	return $out;
}

sub fails_like
{
	my ($role, $sql, $pattern, $what) = @_;
	like((try_as($role, $sql))[1], $pattern, $what);
	return;
}

sub train
{
	my ($name, $steps, $more) = @_;
	return "CALL gpt_train('$name', 'SELECT t FROM lines', $small, steps => $steps" . ($more || '') . ')';
}

sub tune
{
	my ($base, $name, $more) = @_;
	return "CALL gpt_finetune('$base', 'SELECT t FROM lines', '$name', lora_rank => 1, merge => false, "
	  . 'steps => 1, batch_tokens => 128' . ($more || '') . ')';
}

# One that goes on until it is canceled.
sub tune_long { return tune(@_) =~ s/steps => 1/steps => 1000000/r }

sub use_of { return "SELECT length(gpt_generate('1 ', 2, model => '$_[0]')) >= 0" }
sub drop { return "SELECT gpt_drop_model('$_[0]')" }
sub give { return "SELECT gpt_reassign_model('$_[0]', '$_[1]')" }
sub drop_training { return "SELECT gpt_drop_training('$_[0]')" }

sub entries { my ($pattern, @of) = @_; return scalar grep { m{/$pattern$} } map { glob $_ } @of }
sub packs_of { return entries("$_[0]-[a-z0-9]+-[0-9a-f]{16}\\.pack", "$data/base/pgsql_tmp_gpt2/*.pack") }
sub gone { return entries('\.gone\.[^/]*', "$_[0]/.*") }
sub spools { return entries('[0-9a-f]{64}', "$spools/*") }

# A training that runs, as a role.
sub start_training
{
	my ($role, $name, $call) = @_;
	my $query = start_query($node, "SET ROLE $role", $call || train($name, 1000000));
	ok(poll_sql($node, "SELECT count(*) > 0 $progress = '$name' AND state = 'running' AND step > 5"),
		"$name is trained");
	return $query;
}

sub stop_training
{
	my ($query, $name) = @_;
	sql("SELECT pg_cancel_backend(pid) $progress = '$name' AND state = 'running'");
	finish_query($query);
	ok(poll_sql($node, "SELECT count(*) = 0 $progress = '$name' AND state = 'running'"), "$name is stopped");
	return;
}

sql(<<'SQL');
CREATE ROLE ann;
CREATE ROLE bob;
CREATE TABLE lines AS
SELECT i AS id, i || ' plus ' || i % 7 AS t FROM generate_series(1, 100) AS i;
GRANT SELECT ON lines TO PUBLIC;
GRANT EXECUTE ON PROCEDURE gpt_train, gpt_finetune TO PUBLIC;
SQL

# ---- a model goes, with all that is made of it

for my $name ('sums', 'sums2')
{
	works('ann', train($name, 2), "model $name is trained");
	is(works('ann', use_of($name), 'and used'), 't', 'it answers');
	is(packs_of($name), 1, 'it has a pack');
}
fails_like('bob', drop('sums'), qr/42501: must be superuser or owner of model "sums"/, 'not by others');
works('ann', drop('sums'), 'its owner drops it');
ok(!-e "$models/sums", 'its folder is gone');
is(gone($models), 0, 'whole');
is(packs_of('sums'), 0, 'so is its pack');
is(packs_of('sums2'), 1, 'and no other');
is(sql("SELECT name, state FROM gpt_models WHERE name LIKE 'sums%'"), 'sums2|loaded',
	'the engine has unloaded it');
fails_like('ann', use_of('sums'), qr/42704: model "sums" not found/, 'it is not found any more');
fails_like('ann', drop('sums'), qr/42704: model "sums" not found/, 'nor dropped twice');
works('ann', train('sums', 2), 'its name is free');
unlike((try_as('ann', 'BEGIN', drop('sums'), 'ROLLBACK'))[1], qr/ERROR/, 'dropped in a transaction');
ok(!-e "$models/sums", 'which does not bring it back');

# ---- without an engine; while it answers

sql('SELECT gpt_stop_engine()');
works('ann', drop('sums2'), 'dropped where no engine runs');
is(packs_of('sums2'), 0, 'with its pack');
is(sql('SELECT supervisor_pid FROM gpt_info()'), '', 'which was not started for it');
my $text = sql(slow_sql(400));
my $query = start_query($node, slow_sql(400));
poll_until(sub {
	return !is_running($query) || sql('SELECT live_sequences > 0 FROM gpt_engine_counters()') eq 't';
}, undef, 0.001);
sql(drop('slow'));
ok(!-e "$models/slow", 'dropped while it answers');
my ($rc, $out, $err) = finish_query($query);
is("$rc $out", "0 $text", 'what is under way ends well') or diag $err;
is(($node->psql('postgres', use_of('slow')))[0], 3, 'and no other begins');
is(sql("SELECT count(*) FROM gpt_models WHERE name = 'slow'"), 0, 'it is unloaded');

# ---- what is not the server's own, and links

my $super = sub { return (finish_query(start_query($node, @_)))[2] };
like($super->(drop('demo')), qr/ERROR:  55000: model "demo" is not in gpt2_models of the data directory
DETAIL:  It is in ".*", and kept by whoever has put it there/, 'the installation\'s model stays');
works('ann', train('real', 2), 'a model is trained');
mkdir "$data/aside";
append_to_file("$data/aside/kept", 'x');
symlink "$data/aside", "$models/real/link" or die "symlink: $!";
symlink "$data/aside", "$models/alias" or die "symlink: $!";
append_to_file("$data/aside/config.json", '{"model_type": "gpt2"}');
like($super->(drop('alias')), qr/42501: the folder of model "alias" is a symbolic link/,
	'a link is not followed');
works('ann', drop('real'), 'nor is one in the folder');
ok(-f "$data/aside/kept", 'what it led to is there');
unlink "$models/alias";
like($super->(drop($_)), qr/42602/, "bad name \"$_\"") for '../demo', '.gone.1', '';
like($super->('SELECT gpt_drop_model(NULL)'), qr/22023: model name must not be null/, 'no name');

works('ann', train('sealed', 2), 'a model');
chmod 0555, "$models/sealed";
fails_like('ann', drop('sealed'), qr/42501: could not remove model folder .*\nHINT:  Let the server's user write/,
	'a folder that others have put there');
ok(-f "$models/sealed/config.json", 'stays whole');
chmod 0755, "$models/sealed";
works('ann', drop('sealed'), 'and goes');

# ---- a base goes after its adapters

works('ann', train('base', 2), 'a base');
works('ann', tune('base', $_), "and adapter $_") for 'one', 'two';
sql("SELECT gpt_grant_model('base', 'bob')");
works('bob', tune('base', 'three'), 'and one of bob');
like((try_as('ann', drop('base')))[1],
	qr/2BP01: cannot drop model "base" because 3 adapters stand on it\nHINT:  Drop them first: (one, two|two, one), 1 of other roles\./,
	'a base with adapters stays');
is(works('ann', use_of('base'), 'as it was'), 't', 'and answers');

# ---- and is not replaced in silence

($out, $err) = try_as('ann', train('base', 3, ', replace => true'));
like($err, qr/WARNING:  01000: 3 adapters of model "base" will not load once the model is replaced
DETAIL:  Made from the old one: (one, two|two, one), 1 of other roles\./,
	'a base that is replaced: its adapters are named');
unlike($err, qr/ERROR/, 'and it is replaced');
fails_like('ann', use_of('one'), qr/55000: model "base" is not the one that adapter "one" was made from/,
	'they do not load, as was said');
unlike((try_as('ann', tune('base', 'one', ', replace => true')))[1], qr/WARNING: .*adapter/,
	'an adapter that is made again for it warns of nothing');
is(works('ann', use_of('one'), 'it loads'), 't', 'and answers');
works('ann', drop($_), "$_ is dropped") for 'one', 'two';
works('bob', drop('three'), 'three too');
works('ann', drop('base'), 'then the base');

# ---- nor while an adapter of it is trained

works('ann', train('base', 2), 'a base');
sql("SELECT gpt_grant_model('base', 'bob')");
my $tuned = start_training('ann', 'kept', tune_long('base', 'kept'));
my $needed = qr/DETAIL:  Model "kept" is being trained\.\nHINT:  End it first: SELECT pg_cancel_backend\(\d+\);/;
fails_like('ann', drop('base'), qr/55006: cannot drop model "base" while a training needs or replaces it\n$needed/,
	'an adapter is trained: its base stays');
fails_like('ann', train('base', 3, ', replace => true'),
	qr/55006: cannot replace model "base" while an adapter of it is trained\n$needed/, 'and is not replaced');
fails_like('bob', drop('base'), qr/42501: must be superuser or owner/, 'others are not told why');
works('bob', tune('base', 'more'), 'another adapter is trained beside it');
works('bob', drop('more'), 'and dropped');
is(works('ann', use_of('base'), 'the base is used'), 't', 'and answers');
works('ann', "SELECT gpt_grant_model('base', 'public')", 'it is granted');
sql(give('base', $_)) for 'bob', 'ann';
stop_training($tuned, 'kept');
fails_like('ann', "CALL gpt_finetune('base', \$\$SELECT gpt_drop_model('base')::text\$\$, 'own', "
	  . 'lora_rank => 1, merge => false)', qr/55006: cannot drop model "base"/,
	'nor does a training\'s own query drop it');
$tuned = start_training('bob', 'bobs', tune_long('base', 'bobs'));
fails_like('ann', drop('base'),
	qr/55006: cannot drop .*\nHINT:  It is another role's\. Try again when it has ended\./,
	'another\'s training is not named');
kill_query($tuned);
ok(poll_sql($node, "SELECT count(*) = 0 $progress = 'bobs' AND state = 'running'"), 'its client has gone');
$tuned = start_training('ann', 'merged', tune_long('base', 'merged') =~ s/merge => false/merge => true/r);
ok(poll_until(sub { (try_as('ann', train('base', 3, ', replace => true')))[1] !~ /ERROR/ }),
	'what is merged in the end does not need its base');
stop_training($tuned, 'merged');

$query = start_training('ann', 'base', train('base', 1000000, ', replace => true'));
$needed = qr/HINT:  End it first: SELECT pg_cancel_backend\(\d+\);/;
fails_like('ann', tune('base', 'kept'),
	qr/55006: cannot train an adapter of model "base" while it is replaced or dropped\n$needed/,
	'nor is an adapter trained of what is being replaced');
fails_like('ann', drop('base'), qr/55006: cannot drop model "base" while a training needs or replaces it\n$needed/,
	'nor is that dropped');
like($super->(give('base', 'bob')), qr/55006: cannot change the owner of model "base" while it is trained\n$needed/,
	'nor given away');
works('ann', "SELECT gpt_revoke_model('base', 'public')", 'it is revoked');
stop_training($query, 'base');
sql(drop_training($_)) for 'kept', 'bobs', 'merged', 'base';
works('ann', drop('base'), 'then it goes');

# ---- killed while it removes: a model or none, and nothing stays

works('ann', train('big', 2), 'a model');
append_to_file("$models/big/$_", '') for 1 .. FILES;
my @before = glob "$models/big/*";
$query = start_query($node, 'SELECT pg_backend_pid()', drop('big'));
poll_until(sub { gone($models) || !is_running($query) }, undef, 0.001);
kill 'KILL', $query->{out} if $query->{out} =~ /^\d+$/;
($rc) = finish_query($query);
ok(poll_until(sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 }), 'the server is back');
note sprintf 'killed: %s, left: %d', $rc == 0 ? 'no' : 'yes', gone($models);
if (-e "$models/big")
{
	is(scalar(my @now = glob "$models/big/*"), scalar @before, 'the model is whole');
	sql(drop('big'));
}
is(sql("SELECT count(*) FROM gpt_models WHERE name = 'big' OR name LIKE '.%'"), 0, 'or it is none');
mkdir "$models/.gone.1";	# where the kill came too late
append_to_file("$models/.gone.1/config.json", '{}');
works('ann', train('next', 2), 'the next training');
is(gone($models), 0, 'removes what was left');
mkdir "$models/.gone.2";
works('ann', drop('next'), 'so does the next that is dropped');
is(gone($models), 0, 'it is gone');

# ---- a standby's models are its own

works('ann', train('twice', 2), 'a model');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$standby->safe_psql('postgres', drop('twice'));
ok(!-e $standby->data_dir . '/gpt2_models/twice', 'dropped on a standby');
is(works('ann', use_of('twice'), 'it is used on the primary'), 't', 'and is there');
$standby->stop;

# ---- trainings that were stopped

stop_training(start_training('ann', 'long'), 'long');
my $other = start_training('bob', 'running');
is(spools(), 2, 'two trainings');
fails_like('bob', drop_training('long'), qr/42704: no stopped training of model "long" found/,
	'another\'s is none');
fails_like('bob', drop_training('running'),
	qr/55006: a training of model "running" is running\nHINT:  End it first: SELECT pg_cancel_backend\(\d+\);/,
	'one that runs stays');
works('ann', drop_training('long'), 'one that was stopped is removed');
is(sql("SELECT count(*) $progress = 'long'"), 0, 'the view shows it no more');
is(spools(), 1, 'nor is it there');
is(gone($spools), 0, 'nor a part of it');
fails_like('ann', drop_training('long'), qr/42704/, 'nor removed twice');
sql("SELECT pg_cancel_backend(pid) $progress = 'running'");
finish_query($other);
sql(drop_training('running'));	# its process may still be there for a moment
is(spools(), 0, 'a superuser removes anybody\'s');

# ---- the same after the database and the role have gone

sql('CREATE DATABASE short; CREATE ROLE cat');
$node->safe_psql('short', 'CREATE EXTENSION gpt2; CREATE TABLE lines AS SELECT i::text AS t FROM
	generate_series(1, 100) AS i; GRANT SELECT ON lines TO PUBLIC;
	GRANT EXECUTE ON PROCEDURE gpt_train TO PUBLIC');
$query = start_query($node, { db => 'short' }, 'SET ROLE cat', train('left', 1000000));
ok(poll_sql($node, "SELECT count(*) > 0 $progress = 'left' AND step > 5"), 'it is trained');
stop_training($query, 'left');
sql('DROP DATABASE short');
is(sql("SELECT usename, datname $progress = 'left'"), 'cat|', 'a training of a database that has gone');
sql('DROP ROLE cat');
sql(drop_training('left'));
is(spools(), 0, 'is removed');

# ---- two trainings of one name

$query = start_training('ann', 'one_name');
fails_like('bob', train('one_name', 2),
	qr/55000: another session trains model "one_name" already\nHINT:  The view gpt_stat_progress_train shows it\. End that training, or give/,
	'the second one of a name is refused at its start');
fails_like('ann', train('one_name', 1000000), qr/55000: another session trains model "one_name"/,
	'the same one, too');
works('ann', train('another', 2), 'another name is free');
fails_like('bob', drop_training('one_name'), qr/42704/, 'another\'s is none to be dropped');
stop_training($query, 'one_name');
works('bob', train('one_name', 2), 'then the name is free');
fails_like('bob', train('one_name', 2), qr/42710: model "one_name" exists already/, 'and taken');
$query = start_training('ann', 'ends');
kill_query($query);
ok(poll_sql($node, "SELECT count(*) = 0 $progress = 'ends' AND state = 'running'")
	  && poll_until(sub { (try_as('bob', train('ends', 2)))[1] !~ /ERROR/ }),
	'so is that of a client that has gone');
sql(drop_training($_)) for 'one_name', 'ends';

# ---- given to another role

sql('CREATE ROLE dee; CREATE ROLE eve IN ROLE dee');
works('ann', train('gift', 2), 'a model');
works('ann', tune('gift', 'ribbon'), 'and an adapter of it');
is(works('ann', use_of($_), "$_ is used"), 't', 'and answers') for 'gift', 'ribbon';
fails_like('ann', give('gift', 'dee'), qr/42501: must be (member of role|able to SET ROLE) "dee"/,
	'its owner gives it to no role that it is no member of');
fails_like('eve', give('gift', 'dee'), qr/42501: must be superuser or owner of model "gift"/,
	'nor does that role take it');
sql(give('gift', 'dee'));
is(sql("SELECT state FROM gpt_models WHERE name = 'gift'"), 'on disk', 'a superuser does: it is unloaded');
fails_like('ann', use_of('gift'), qr/42501: permission denied for model "gift"/, 'ann uses it no more');
is(sql("SET ROLE ann; SELECT count(*) FROM gpt_models WHERE name = 'gift'"), 0, 'nor sees it');
is(works('eve', use_of('gift'), 'a member of the new owner uses it'), 't', 'and it answers');
is(works('eve', "SELECT state, owner FROM gpt_models WHERE name = 'gift'", 'and sees it'), 'loaded|dee',
	'and whose it is');
sql("SELECT gpt_unload_model('ribbon')");
is(works('ann', use_of('ribbon'), 'its adapter is whose it was, and loads'), 't', 'and answers');
works('eve', "SELECT gpt_grant_model('gift', 'ann')", 'it is granted');
is(works('ann', use_of('gift'), 'and used by who had it'), 't', 'and answers');
fails_like('ann', drop('gift'), qr/42501: must be superuser or owner/, 'which does not have it');
sql(train('gift', 3, ', replace => true'));
is(works('eve', use_of('gift'), 'what replaces it'), 't', 'is the new owner\'s');
sql('GRANT dee TO ann');
works('ann', give('gift', 'ann'), 'a member of the owner takes it');
fails_like('eve', "SELECT gpt_revoke_model('gift', 'ann')", qr/42501/, 'it is no more the owner\'s');
if ($node->pg_version >= 16)
{
	sql('GRANT dee TO ann WITH SET FALSE');
	fails_like('ann', give('gift', 'dee'), qr/42501: must be able to SET ROLE "dee"/,
		'a member that cannot become the new owner');
	sql('GRANT dee TO ann WITH SET TRUE');
}
unlike((try_as('ann', 'BEGIN', give('gift', 'dee'), 'ROLLBACK'))[1], qr/ERROR/, 'given in a transaction');
sql('REVOKE dee FROM ann');
fails_like('ann', "SELECT gpt_grant_model('gift', 'bob')", qr/42501: must be superuser or owner/,
	'which does not take it back');
works('ann', drop('ribbon'), 'the adapter');
works('eve', drop('gift'), 'and its base go');

# ---- whose a model is, when roles are renamed and made again

works('ann', train('anns', 2), 'a model');
like(slurp_file("$models/anns/gpt2.json"), qr/"owner":\s*"ann",\s*"owner_oid":\s*\d+,\s*"owner_cluster":\s*"\d+"/,
	'says whose it is');
sql('ALTER ROLE ann RENAME TO anne; CREATE ROLE ann');
is(works('anne', use_of('anns'), 'a renamed role uses it'), 't', 'and it answers');
is(sql("SET ROLE anne; SELECT count(*) FROM gpt_models WHERE name = 'anns'"), 1, 'sees it');
works('anne', "SELECT gpt_grant_model('anns', 'bob'); SELECT gpt_revoke_model('anns', 'bob')", 'grants it');
fails_like('ann', use_of('anns'), qr/42501/, 'a new role of the old name does not use it');
is(sql("SET ROLE ann; SELECT count(*) FROM gpt_models WHERE name = 'anns'"), 0, 'nor sees it');
fails_like('ann', $_, qr/42501: must be superuser or owner/, 'nor manages it')
  for "SELECT gpt_grant_model('anns', 'ann')", drop('anns'), train('anns', 2, ', replace => true');
sql('SELECT gpt_stop_engine()');
fails_like('ann', use_of('anns'), qr/42501/, 'also where the engine loads it anew');
works('anne', train('anns', 3, ', replace => true'), 'its owner replaces it');
sql(train('anns', 4, ', replace => true'));
is(works('anne', use_of('anns'), 'replaced by a superuser it is used'), 't', 'by its owner');
works('anne', "SELECT gpt_grant_model('anns', 'anne')", 'to whom it belongs');
sql('DROP OWNED BY anne; DROP ROLE anne; CREATE ROLE anne');
fails_like('anne', drop('anns'), qr/42501: must be superuser or owner/, 'nobody\'s after DROP ROLE');
sql(drop('anns'));

# a folder of another cluster, and one that says a name only
for my $owner ('"owner": "bob", "owner_oid": 10, "owner_cluster": "1"', '"owner": "bob"')
{
	works('bob', train('moved', 2), 'a model');
	unlink "$models/moved/gpt2.json";
	append_to_file("$models/moved/gpt2.json", "{\"roles\": [], $owner}");
	fails_like('ann', use_of('moved'), qr/42501/, "$owner: others do not use it");
	is(works('bob', use_of('moved'), 'the role of that name uses it'), 't', 'and it answers');
	works('bob', drop('moved'), 'and drops it');
}
works('bob', train('broken', 2), 'a model');
append_to_file("$models/broken/gpt2.json.new", '{"owner": "bob", "owner_oid": "ten"}');
rename "$models/broken/gpt2.json.new", "$models/broken/gpt2.json";
fails_like('bob', drop('broken'), qr/42501: must be superuser or owner/, 'an owner that cannot be read is none');
is(sql("SET ROLE bob; SELECT count(*) FROM gpt_models WHERE name = 'broken'"), 0, 'it is for superusers');
sql(drop('broken'));

# ---- killed when the model was in its place: it is over

stop_training(start_training('bob', 'over'), 'over');
my ($place) = grep { m{/[0-9a-f]{64}$} } glob "$spools/*";
rename "$place/model", "$models/over" or die "rename: $!";
my @fields = unpack PROGRESS, slurp_file("$place/progress");
@fields[ PHASE, FOLDER ] = (WRITING, (stat "$models/over")[1]);
my $hash = 2166136261;
$hash = (($hash ^ $_) * 16777619) & 0xFFFFFFFF for unpack 'C*', substr(pack(PROGRESS, @fields), 8);
$fields[SUM] = $hash;
open my $file, '+<:raw', "$place/progress" or die "progress: $!";
print $file pack(PROGRESS, @fields);
close $file or die "progress: $!";
is(sql("SELECT count(*) $progress = 'over'"), 0, 'a training whose model is in its place is over');
fails_like('bob', drop_training('over'), qr/42704: no stopped training/, 'there is nothing to go on with');
works('bob', train('after', 2), 'the next one');
is(spools(), 0, 'removes what is left of it');
ok(-d "$models/over", 'and not the model');

done_testing();
