/*
 * saved_usage.c: the file in which the engine saves its usage counters, as the PostgreSQL side sees
 * it.  The engine alone writes it; here it is read and removed where no engine runs.
 */
#include "compat.h"

#include <unistd.h>

#include "access/xlog.h"
#if PG_VERSION_NUM >= 150000
#include "access/xlogrecovery.h"
#endif

#include "file.h"
#include "saved_usage.h"

void
gpt2_cluster_identity(uint64 *system_identifier, uint32 *timeline)
{
	TimeLineID	replayed = 0;

	*system_identifier = GetSystemIdentifier();
	if (RecoveryInProgress())
	{
		(void) GetXLogReplayRecPtr(&replayed);
		*timeline = replayed;
	}
	else
		*timeline = gpt2_insertion_timeline();
}

bool
gpt2_usage_file_load(g2_span *payload)
{
	uint64		system_identifier;
	uint32		timeline;
	size_t		len;
	char	   *error;
	char	   *data = gpt2_file_read(G2_USAGE_FILE, G2_USAGE_FILE, G2_MAX_USAGE_FILE, &len, &error);

	if (error)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not read the saved usage counters"),
				 errdetail_internal("%s", error),
				 errhint("gpt_stat_reset() removes the file.")));
	gpt2_cluster_identity(&system_identifier, &timeline);
	return data && g2_usage_file_check(data, len, system_identifier, timeline, payload);
}

void
gpt2_usage_file_remove(void)
{
	if (unlink(G2_USAGE_FILE) != 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", G2_USAGE_FILE)));
}
