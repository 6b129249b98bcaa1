/*
 * progress.c: long work of backends, as they tell of it.
 */
#include "progress.h"

#include <string.h>

#include "util.h"

struct g2_progress
{
	g2_progress *next;
	const g2_client *client;
	g2_progress_row row;		/* its command points to the next field */
	char		command[G2_MAX_COMMAND];
};

static void
fill(g2_progress *progress, const g2_progress_row *row)
{
	uint32_t	len = G2_MIN(row->command.len, (uint32_t) G2_MAX_COMMAND);

	progress->row = *row;
	if (len > 0)
		memcpy(progress->command, row->command.data, len);
	progress->row.command = (g2_span) {progress->command, len};
}

bool
g2_progress_set(g2_progress **list, const g2_client *client, const g2_progress_row *row,
				g2_error *err)
{
	g2_progress **at = list;
	uint32_t	n = 0;

	for (; *at && !((*at)->client == client && (*at)->row.number == row->number);
		 at = &(*at)->next)
		n += (*at)->client == client;
	if (*at && row->ended)
	{
		g2_progress *progress = *at;

		*at = progress->next;
		g2_free(progress);
		return true;
	}
	if (row->ended || (!*at && n >= G2_MAX_PROGRESSES))
		return true;
	if (!*at && !(*at = g2_alloc(sizeof **at)))
		return g2_fail_memory(err, sizeof **at);
	(*at)->client = client;
	fill(*at, row);
	return true;
}

void
g2_progress_forget(g2_progress **list, const g2_client *client)
{
	while (*list)
	{
		g2_progress *progress = *list;

		if (progress->client != client)
		{
			list = &progress->next;
			continue;
		}
		*list = progress->next;
		g2_free(progress);
	}
}

void
g2_progress_list(const g2_progress *list, g2_writer *w)
{
	uint32_t	n = 0;

	for (const g2_progress *progress = list; progress; progress = progress->next)
		n++;
	g2_put_u32(w, n);
	for (; list; list = list->next)
		g2_progress_row_encode(w, &list->row);
}
