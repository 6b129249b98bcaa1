/*
 * model_locks.c: heavyweight locks of models, the same for all databases.
 *
 * Each is a user lock of no database.  A name's is the hash of the name: where two names have the
 * same 48 bits, they cannot be trained at the same time, and nothing else.
 */
#include "compat.h"

#include "common/hashfn.h"
#include "storage/lock.h"

#include "model_locks.h"

#define FOLDERS 0x67707272		/* "gprr" */
#define NEW_MODEL 0x6770746e	/* "gptn" */

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

static LOCKTAG
name_tag(const char *name)
{
	return make_tag(NEW_MODEL, hash_bytes_extended((const unsigned char *) name,
												   (int) strlen(name), 0));
}

bool
gpt2_lock_new_model(const char *name, bool of_session)
{
	LOCKTAG		tag = name_tag(name);

	return LockAcquire(&tag, ExclusiveLock, of_session, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
gpt2_unlock_new_model(const char *name, bool of_session)
{
	LOCKTAG		tag = name_tag(name);

	LockRelease(&tag, ExclusiveLock, of_session);
}
