/*
 * role_limits.c: the limits of the session's user.
 *
 * The session's variables do not tell them: where the library is not preloaded, a startup option
 * (PGOPTIONS) takes the place of the role's value and is dropped when the library is loaded, for
 * lack of privilege.  So they are read where ALTER ROLE and ALTER DATABASE keep them, in
 * pg_db_role_setting, in PostgreSQL's order: role in database, role, database, all.  The
 * configuration files' values are the engine's, from the supervisor.
 *
 * A change of that catalog is announced to nobody, so it is read again when the last reading is
 * older than REREAD_MS.  With the time after which a wait wakes up (client.c), a change is seen
 * within a second.
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "role_limits.h"

#define REREAD_MS 500

static int64 found[G2_N_LIMITS];	/* of found_for */
static Oid	found_for = InvalidOid;
static TimestampTz found_at;

/* "name=value": does it set a limit that is not known yet?  A value that the setting would not
 * take counts as not set, as it does at the start of a session. */
static void
read_setting(const char *setting, int64 limits[G2_N_LIMITS])
{
	const char *equals = strchr(setting, '=');
	size_t		len = equals ? equals - setting : 0;

	for (int i = 0; i < G2_N_LIMITS && equals; i++)
	{
		const char *name = gpt2_limit_settings[i].name;
		int			value;

		if (limits[i] == G2_LIMIT_UNSET && strlen(name) == len &&
			pg_strncasecmp(setting, name, len) == 0 &&
			parse_int(equals + 1, &value, 0, NULL) && value >= G2_UNLIMITED)
			limits[i] = value;
	}
}

/* setconfig of one row: text[]. */
static void
read_settings(Datum setconfig, int64 limits[G2_N_LIMITS])
{
	ArrayType  *array = DatumGetArrayTypeP(setconfig);
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *setting;

		if (nulls[i])
			continue;
		setting = TextDatumGetCString(elements[i]);
		read_setting(setting, limits);
		pfree(setting);
	}
	/* A long wait comes here often. */
	pfree(elements);
	pfree(nulls);
	if (PointerGetDatum(array) != setconfig)
		pfree(array);
}

/* The row of database and role, if there is one. */
static void
read_row(Relation relation, Oid database, Oid role, int64 limits[G2_N_LIMITS])
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(relation, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		setconfig = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
											 RelationGetDescr(relation), &isnull);

		if (!isnull)
			read_settings(setconfig, limits);
	}
	systable_endscan(scan);
}

static void
read_catalog(Oid role, int64 limits[G2_N_LIMITS])
{
	Relation	relation;

	for (int i = 0; i < G2_N_LIMITS; i++)
		limits[i] = G2_LIMIT_UNSET;
	/* In a long statement nobody else looks for changes of catalogs. */
	AcceptInvalidationMessages();
	relation = table_open(DbRoleSettingRelationId, AccessShareLock);
	read_row(relation, MyDatabaseId, role, limits);
	read_row(relation, InvalidOid, role, limits);
	read_row(relation, MyDatabaseId, InvalidOid, limits);
	read_row(relation, InvalidOid, InvalidOid, limits);
	table_close(relation, AccessShareLock);
}

void
gpt2_limits_of(Oid role, int64 limits[G2_N_LIMITS])
{
	TimestampTz now = GetCurrentTimestamp();

	if (found_for != role ||
		now < found_at ||
		TimestampDifferenceExceeds(found_at, now, REREAD_MS))
	{
		int64		fresh[G2_N_LIMITS];

		read_catalog(role, fresh);
		memcpy(found, fresh, sizeof found);
		found_for = role;
		found_at = now;
	}
	for (int i = 0; i < G2_N_LIMITS; i++)
		limits[i] = gpt2_limit_settings[i].here ? gpt2_limit_settings[i].value : found[i];
}
