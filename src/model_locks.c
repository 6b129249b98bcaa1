/*
 * model_locks.c: heavyweight locks of models, the same for all databases.
 *
 * Each is a user lock of no database.  A name's is the hash of the name: where two names have the
 * same 48 bits, each is in the way where the other is locked, and nothing else.
 */
#include "compat.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "model_locks.h"

#define FOLDERS 0x67707272		/* "gprr" */
#define NAME 0x6770746e			/* "gptn" */
#define MOST_OF_TRAINING 3

/* What this session holds for its training. */
static struct
{
	LOCKTAG		tag;
	LOCKMODE	mode;
}			of_training[MOST_OF_TRAINING];
static int	n_of_training;

static LOCKTAG
make_tag(uint32 what, uint64 hash)
{
	LOCKTAG		tag;

	memset(&tag, 0, sizeof tag);	/* field1, the database, stays 0 */
	tag.locktag_field2 = what;
	tag.locktag_field3 = (uint32) hash;
	tag.locktag_field4 = (uint16) (hash >> 32);
	tag.locktag_type = LOCKTAG_USERLOCK;
	tag.locktag_lockmethodid = USER_LOCKMETHOD;
	return tag;
}

void
gpt2_lock_folders(void)
{
	LOCKTAG		tag = make_tag(FOLDERS, 0);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
gpt2_unlock_folders(void)
{
	LOCKTAG		tag = make_tag(FOLDERS, 0);

	LockRelease(&tag, ExclusiveLock, false);
}

/* ---- names ---- */

static LOCKTAG
name_tag(const char *name)
{
	return make_tag(NAME, hash_bytes_extended((const unsigned char *) name, (int) strlen(name), 0));
}

static bool
is_tag(const LOCKTAG *a, const LOCKTAG *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

bool
gpt2_lock_model(const char *name, LOCKMODE mode)
{
	LOCKTAG		tag = name_tag(name);

	/* To PostgreSQL, a session's own locks are in nobody's way. */
	for (int i = 0; i < n_of_training; i++)
		if (is_tag(&of_training[i].tag, &tag) && DoLockModesConflict(of_training[i].mode, mode))
			return false;
	return LockAcquire(&tag, mode, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
gpt2_unlock_model(const char *name, LOCKMODE mode)
{
	LOCKTAG		tag = name_tag(name);

	LockRelease(&tag, mode, false);
}

bool
gpt2_lock_for_training(const char *name, LOCKMODE mode)
{
	LOCKTAG		tag = name_tag(name);

	Assert(n_of_training < MOST_OF_TRAINING);
	if (LockAcquire(&tag, mode, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	of_training[n_of_training].tag = tag;
	of_training[n_of_training].mode = mode;
	n_of_training++;
	return true;
}

void
gpt2_unlock_training(void)
{
	while (n_of_training > 0)
	{
		n_of_training--;
		LockRelease(&of_training[n_of_training].tag, of_training[n_of_training].mode, true);
	}
}

/* ---- who is in the way ---- */

static bool
conflicts(LOCKMASK held, LOCKMODE mode)
{
	for (LOCKMODE m = AccessShareLock; m <= MaxLockMode; m++)
		if ((held & LOCKBIT_ON(m)) && DoLockModesConflict(m, mode))
			return true;
	return false;
}

/* Looks at all locks of the server, as pg_locks does: only for errors. */
int
gpt2_model_lock_holder(const char *name, LOCKMODE mode)
{
	LOCKTAG		tag = name_tag(name);
	LockData   *locks = GetLockStatusData();
	int			pid = 0;

	for (int i = 0; i < locks->nelements && (pid == 0 || pid == MyProcPid); i++)
		if (is_tag(&locks->locks[i].locktag, &tag) && conflicts(locks->locks[i].holdMask, mode))
			pid = locks->locks[i].pid;
	return pid;
}
