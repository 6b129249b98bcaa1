/*
 * session_user.c: what the engine is told about who asks: the session's user with its name and
 * limits, whether a role is a member of those that a model is for, and the server's timeline.
 *
 * The timeline, because the usage counters belong to it: nothing announces the promotion of a
 * standby to a process that runs, so the first session that asks for something says it.
 *
 * The engine keeps memberships that it has been told (ACCESS) until the next SESSION message.  So
 * that comes too when a role or a membership has changed anywhere, which PostgreSQL announces by
 * invalidations.
 */
#include "compat.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "encoding.h"
#include "owner.h"
#include "role_limits.h"
#include "saved_usage.h"
#include "session_user.h"

static uint64 version;			/* 0 = nothing is known yet */
static Oid	user;
static char user_name[NAMEDATALEN];	/* valid UTF-8 */
static int64 user_limits[G2_N_LIMITS];
static uint32 timeline;
static bool roles_changed = true;

static void
on_change(Datum arg, int cacheid, uint32 hashvalue)
{
	roles_changed = true;
}

static void
watch_roles(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterSyscacheCallback(AUTHOID, on_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_change, (Datum) 0);
	watching = true;
}

/* For messages only.  A role may have been named in a database of another encoding, so this never
 * relies on a conversion: where the name is not UTF-8 already, '?' stands for what is not ASCII. */
static void
set_user_name(void)
{
	char	   *name = GetUserNameFromId(user, true);

	strlcpy(user_name, name ? name : "", sizeof user_name);
	if (GetDatabaseEncoding() != PG_UTF8 ||
		!pg_verify_mbstr(PG_UTF8, user_name, (int) strlen(user_name), true))
		for (char *c = user_name; *c; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	if (name)
		pfree(name);
}

uint64
gpt2_session_version(void)
{
	Oid			now = GetSessionUserId();
	int64		limits[G2_N_LIMITS];
	uint64		cluster;
	uint32		timeline_now;

	Assert(IsTransactionState());
	watch_roles();
	/* This may find changes of roles too. */
	gpt2_limits_of(now, limits);
	gpt2_cluster_identity(&cluster, &timeline_now);
	if (version > 0 && !roles_changed && now == user && timeline_now == timeline &&
		memcmp(limits, user_limits, sizeof limits) == 0)
		return version;
	roles_changed = false;
	user = now;
	timeline = timeline_now;
	memcpy(user_limits, limits, sizeof user_limits);
	version++;
	set_user_name();
	return version;
}

void
gpt2_session_encode(g2_writer *w)
{
	g2_session_message m = {
		.session_user = user, .user_name = g2_span_of(user_name), .timeline = timeline,
	};

	memcpy(m.limits, user_limits, sizeof m.limits);
	g2_session_message_encode(w, &m);
}

bool
gpt2_is_member(Oid role, const g2_roles *roles)
{
	/* In a long statement nobody else looks whether a membership was taken away. */
	AcceptInvalidationMessages();
	if (superuser_arg(role) || gpt2_has_privs_of(role, gpt2_role_of_owner(&roles->owner)))
		return true;
	for (uint32 i = 0; i < roles->n; i++)
		if (gpt2_has_privs_of(role, gpt2_role_of_name(roles->roles[i])))
			return true;
	return false;
}
