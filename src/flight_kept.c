/*
 * flight_kept.c: payloads of requests in flight: their own, to be sent again, and those that wait for
 * somebody to take them: answers, tokens and notices.
 *
 * Requests that wait for the same thing get the same notice of it; it is raised once.
 */
#include "compat.h"

#include "utils/memutils.h"

#include "flight.h"

#define MAX_NOTICES 16			/* of one request that nobody waits for */
#define MAX_NOTICE_BYTES 8192

char *
gpt2_keep_bytes(const char *data, size_t len)
{
	char	   *copy = MemoryContextAllocExtended(gpt2_request_context, len + 1, MCXT_ALLOC_NO_OOM);

	if (copy && len > 0)
		memcpy(copy, data, len);
	return copy;
}

void
gpt2_free_bytes(char **p)
{
	if (*p)
		pfree(*p);
	*p = NULL;
}

bool
gpt2_keep_in(dlist_head *list, const char *data, uint32 len)
{
	Gpt2Kept   *kept = MemoryContextAllocExtended(gpt2_request_context,
												  offsetof(Gpt2Kept, data) + len,
												  MCXT_ALLOC_NO_OOM);

	if (!kept)
		return false;
	kept->len = len;
	memcpy(kept->data, data, len);
	dlist_push_tail(list, &kept->node);
	return true;
}

void
gpt2_free_kept(dlist_head *list)
{
	while (!dlist_is_empty(list))
		pfree(dlist_container(Gpt2Kept, node, dlist_pop_head_node(list)));
}

/* ---- notices ---- */

static bool
says(const Gpt2Kept *notice, const char *payload, uint32 len)
{
	return notice->len == len && memcmp(notice->data, payload, len) == 0;
}

/* Many requests may be waiting for the same thing. */
static bool
was_heard(const char *payload, uint32 len)
{
	dlist_iter	iter;

	dlist_foreach(iter, &gpt2_requests)
	{
		const Gpt2Kept *heard = dlist_container(Gpt2Request, node, iter.cur)->heard;

		if (heard && says(heard, payload, len))
			return true;
	}
	return false;
}

static void
forget_notice(Gpt2Request *request, const Gpt2Kept *heard)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &request->notices)
	{
		Gpt2Kept   *notice = dlist_container(Gpt2Kept, node, iter.cur);

		if (!says(notice, heard->data, heard->len))
			continue;
		dlist_delete(&notice->node);
		pfree(notice);
		request->n_notices--;
	}
}

const Gpt2Kept *
gpt2_flight_notice(Gpt2Request *request)
{
	dlist_iter	iter;

	if (dlist_is_empty(&request->notices))
		return NULL;
	if (request->heard)
		pfree(request->heard);
	request->heard = dlist_container(Gpt2Kept, node, dlist_pop_head_node(&request->notices));
	request->n_notices--;
	dlist_foreach(iter, &gpt2_requests)
		forget_notice(dlist_container(Gpt2Request, node, iter.cur), request->heard);
	return request->heard;
}

void
gpt2_flight_keep_notice(Gpt2Request *request, const char *payload, uint32 len)
{
	if (request->n_notices >= MAX_NOTICES || len > MAX_NOTICE_BYTES || was_heard(payload, len))
		return;
	request->n_notices += gpt2_keep_in(&request->notices, payload, len);
}
