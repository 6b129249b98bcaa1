/*
 * gpt2.c: the library's entry point.
 *
 * Loading starts nothing by itself: with shared_preload_libraries the supervisor is registered
 * with the postmaster, otherwise the first request starts it (engine_connection.c).
 */
#include "compat.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "batch.h"
#include "failed_calls.h"
#include "guc.h"
#include "supervisor.h"

PG_MODULE_MAGIC;

#if PG_VERSION_NUM < 160000
extern void _PG_init(void);
#endif

void
_PG_init(void)
{
	gpt2_define_settings();
	gpt2_batch_initialize();
	gpt2_failed_calls_initialize();
	/* pg_upgrade starts a server that must do nothing of its own. */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
		gpt2_supervisor_register_static();
}
