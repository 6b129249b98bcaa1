/*
 * attempt.c: something that may fail, done so that a failure leaves nothing behind.
 */
#include "compat.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "attempt.h"

/* Some errors are not the step's: whoever asked for the query to end must not wait. */
static bool
ends_the_query(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_CRASH_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_DATABASE_DROPPED;
}

ErrorData *
gpt2_attempt(void (*step) (void *), void *arg)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		if (ends_the_query(error))
			ReThrowError(error);
	}
	PG_END_TRY();
	return error;
}
