/*
 * compat.h: what differs between PostgreSQL 13 and 18, in one place.
 */
#ifndef GPT2_COMPAT_H
#define GPT2_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 130000
#error "gpt2 needs PostgreSQL 13 or later"
#endif

/* 16 took access to toasted values out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 14 moved wait events out of pgstat.h. */
#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#else
#include "pgstat.h"
#endif

/* A wait event set that lives as long as the process; 17 ties the others to resource owners. */
#if PG_VERSION_NUM >= 170000
#define gpt2_create_wait_event_set(n) CreateWaitEventSet(NULL, (n))
#else
#define gpt2_create_wait_event_set(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 17 can name an extension's wait events. */
#if PG_VERSION_NUM >= 170000
#define gpt2_wait_event(name) WaitEventExtensionNew(name)
#else
#define gpt2_wait_event(name) PG_WAIT_EXTENSION
#endif

/* 15 renamed it. */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 16 keeps what belongs to settings in a memory context of its own. */
#if PG_VERSION_NUM >= 160000
#define gpt2_guc_malloc(bytes) guc_malloc(LOG, (bytes))
#else
#define gpt2_guc_malloc(bytes) malloc(bytes)
#endif

/* 14 can ask whether the client is still there. */
#if PG_VERSION_NUM >= 140000
#define GPT2_HAVE_CHECK_CONNECTION 1
/* Declared here: libpq/libpq.h pulls in gssapi.h, which Debian's server headers do not bring. */
extern bool pq_check_connection(void);
#endif

/* 15 made the timeline that WAL is written on an attribute of the server. */
#if PG_VERSION_NUM >= 150000
#define gpt2_insertion_timeline() GetWALInsertionTimeLine()
#else
#define gpt2_insertion_timeline() ThisTimeLineID
#endif

/* 14 renamed predefined roles. */
#if PG_VERSION_NUM < 140000
#define ROLE_PG_READ_ALL_STATS DEFAULT_ROLE_READ_ALL_STATS
#endif

/* 16 made SET ROLE a right of its own, beside membership. */
#if PG_VERSION_NUM < 160000
#define check_can_set_role(member, role) check_is_member_of_role(member, role)
#endif

/* 18 spells it as C11 does, in front of the declaration. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/* Parameters of hooks: 18 left one out of ExecutorRun, 14 put one into ProcessUtility. */
#if PG_VERSION_NUM >= 180000
#define GPT2_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define GPT2_RUN_ARGUMENTS query, direction, count
#else
#define GPT2_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define GPT2_RUN_ARGUMENTS query, direction, count, once
#endif
#if PG_VERSION_NUM >= 140000
#define GPT2_UTILITY_PARAMETERS PlannedStmt *pstmt, const char *source, bool read_only, \
	ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment, \
	DestReceiver *dest, QueryCompletion *completion
#define GPT2_UTILITY_ARGUMENTS \
	pstmt, source, read_only, context, params, environment, dest, completion
#else
#define GPT2_UTILITY_PARAMETERS PlannedStmt *pstmt, const char *source, \
	ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment, \
	DestReceiver *dest, QueryCompletion *completion
#define GPT2_UTILITY_ARGUMENTS pstmt, source, context, params, environment, dest, completion
#endif

#endif							/* GPT2_COMPAT_H */
