/*
 * client.c: requests of this backend to the engine.
 *
 * A request lives in the list below, in the order of ids (which are never used twice), from
 * gpt2_request to gpt2_request_release or to the end of its resource owner.  It holds its payload
 * until it is answered, so that it can be sent again.  States:
 *
 *     waiting, not sent   queued here, or its engine has died
 *     waiting, sent       in flight on the open connection
 *     answered, failed    final
 *
 * Nothing is done between calls: what has arrived meanwhile is read by the next call.  Answers to
 * ids that are not in the list belong to cancelled requests and are dropped.  An interrupt or an
 * error may leave any call by longjmp; list and connection are consistent at each such point.
 *
 * When the engine dies, what was sent counts one death and is sent again over the next connection.
 * A request that has seen MAX_DEATHS fails: it may well be what kills the engine.  An engine that
 * says GOODBYE (new settings, an upgrade) is no death; only a bound keeps that from going on for
 * ever.
 */
#include "compat.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "client.h"
#include "connection.h"

#define MAX_DEATHS 2
#define MAX_GOODBYES 50
#define MAX_NOTICES 16			/* of one request that nobody waits for */
#define MAX_NOTICE_BYTES 8192
#define MAX_QUEUED (16 * 1024 * 1024)	/* bytes that are put behind each other for sending */
#define WAKE_MS 1000			/* to look after the client */

typedef enum RequestState
{
	REQUEST_WAITING,
	REQUEST_ANSWERED,
	REQUEST_ENGINE_DIED,
	REQUEST_NO_ENGINE,			/* one that starts none, and there is none */
	REQUEST_NO_MEMORY
} RequestState;

struct Gpt2Request
{
	dlist_node	node;
	uint64		id;
	g2_message	type;
	ResourceOwner owner;
	RequestState state;
	bool		sent;			/* over the open connection */
	bool		starts_none;	/* asks a running engine only */
	int			deaths;
	int			goodbyes;
	char	   *payload;		/* NULL when answered */
	size_t		payload_len;
	g2_message	answer_type;
	char	   *answer;
	size_t		answer_len;
	int			n_notices;
	char	   *notices[MAX_NOTICES];
	uint32		notice_len[MAX_NOTICES];
};

static dlist_head requests = DLIST_STATIC_INIT(requests);
static int	n_requests;
static int	n_unsent;			/* waiting, not sent */
static int	n_in_flight;		/* waiting, sent */
static uint64 next_id = 1;
static MemoryContext request_context;
static bool said_goodbye;		/* the engine of the open connection */

/* ---- memory ---- */

/* A copy that outlives transactions; NULL when there is no memory. */
static char *
keep_bytes(const char *data, size_t len)
{
	char	   *copy = MemoryContextAllocExtended(request_context, len + 1, MCXT_ALLOC_NO_OOM);

	if (copy && len > 0)
		memcpy(copy, data, len);
	return copy;
}

static void
free_bytes(char **p)
{
	if (*p)
		pfree(*p);
	*p = NULL;
}

/* ---- states ---- */

static void
finish_request(Gpt2Request *request, RequestState state)
{
	if (request->state == REQUEST_WAITING && request->sent)
		n_in_flight--;
	else if (request->state == REQUEST_WAITING)
		n_unsent--;
	request->sent = false;
	request->state = state;
	free_bytes(&request->payload);
}

/* Who ends a connection: this backend, or the engine (which has gone, or broke the rules). */
typedef enum Ending
{
	ENDING_OURS,
	ENDING_ENGINE
} Ending;

/* The connection is closed; what was in flight on it will be sent again.  Never raises. */
static void
reset_connection(Ending ending)
{
	bool		orderly = ending == ENDING_OURS || said_goodbye;
	dlist_iter	iter;

	gpt2_connection_close();
	said_goodbye = false;
	dlist_foreach(iter, &requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (!request->sent)
			continue;
		request->sent = false;
		n_in_flight--;
		n_unsent++;
		request->goodbyes += orderly && ending == ENDING_ENGINE;
		request->deaths += !orderly;
		if (request->starts_none)
			finish_request(request, REQUEST_NO_ENGINE);
		else if (request->deaths >= MAX_DEATHS || request->goodbyes >= MAX_GOODBYES)
			finish_request(request, REQUEST_ENGINE_DIED);
	}
}

static Gpt2Request *
find_request(uint64 id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (request->id == id)
			return request->state == REQUEST_WAITING ? request : NULL;
	}
	return NULL;
}

/* ---- what arrives ---- */

/* A notice that there is no room or memory for is dropped. */
static void
keep_notice(Gpt2Request *request, const char *payload, uint32 len)
{
	char	   *copy;

	if (request->n_notices >= MAX_NOTICES || len > MAX_NOTICE_BYTES)
		return;
	copy = keep_bytes(payload, len);
	if (!copy)
		return;
	request->notices[request->n_notices] = copy;
	request->notice_len[request->n_notices] = len;
	request->n_notices++;
}

static void
keep_answer(Gpt2Request *request, const g2_frame *frame, const char *payload)
{
	request->answer = keep_bytes(payload, frame->length);
	request->answer_len = frame->length;
	request->answer_type = (g2_message) frame->type;
	finish_request(request, request->answer ? REQUEST_ANSWERED : REQUEST_NO_MEMORY);
}

static bool
is_answer(uint16 type)
{
	switch (type)
	{
		case G2_MSG_ERROR:
		case G2_MSG_DONE:
		case G2_MSG_COMPLETIONS:
		case G2_MSG_TOKENS:
		case G2_MSG_TEXT:
		case G2_MSG_MODEL_LIST:
		case G2_MSG_INFO_ROW:
		case G2_MSG_REQUEST_LIST:
		case G2_MSG_USAGE_LIST:
		case G2_MSG_ENGINE_LIST:
			return true;
		default:
			return false;
	}
}

static void
take_frames(void)
{
	g2_frame	frame;
	const char *payload;

	while (gpt2_wire_next(&gpt2_connection, &frame, &payload))
	{
		Gpt2Request *request;

		if (frame.type == G2_MSG_GOODBYE)
		{
			said_goodbye = true;
			continue;
		}
		if (frame.type != G2_MSG_NOTICE && !is_answer(frame.type))
		{
			ereport(LOG,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("unexpected message of type %u from the gpt2 engine", frame.type)));
			reset_connection(ENDING_ENGINE);
			return;
		}
		request = find_request(frame.id);
		if (request && frame.type == G2_MSG_NOTICE)
			keep_notice(request, payload, frame.length);
		else if (request)
			keep_answer(request, &frame, payload);
	}
	gpt2_wire_taken(&gpt2_connection);
	if (said_goodbye && gpt2_connection_is_open())
		reset_connection(ENDING_ENGINE);
}

/* Reads what has arrived, never waits; finds out about an engine that has gone meanwhile before
 * anything is sent to it. */
static void
catch_up(void)
{
	if (!gpt2_connection_is_open())
		return;
	(void) gpt2_wire_flush(&gpt2_connection);
	gpt2_wire_fill(&gpt2_connection);
	take_frames();
	if (gpt2_wire_lost(&gpt2_connection))
		reset_connection(ENDING_ENGINE);
}

/* ---- what is sent ---- */

static void
send_requests(void)
{
	dlist_iter	iter;

	if (n_unsent == 0)
		return;
	dlist_foreach(iter, &requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (request->state != REQUEST_WAITING || request->sent)
			continue;
		if (gpt2_wire_queued(&gpt2_connection) > MAX_QUEUED)
			break;				/* the rest when these have left */
		if (!gpt2_wire_send(&gpt2_connection, request->type, request->id, request->payload,
							request->payload_len))
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("Failed on a request of %zu bytes.", request->payload_len)));
		request->sent = true;
		n_in_flight++;
		n_unsent--;
	}
	(void) gpt2_wire_flush(&gpt2_connection);
}

/* Connects where necessary (and where `request` may start an engine), sends what is not sent,
 * takes what is there. */
static void
make_progress(Gpt2Request *request)
{
	if (request->starts_none && !gpt2_connection_is_open())
	{
		finish_request(request, REQUEST_NO_ENGINE);
		return;
	}
	gpt2_connection_open();
	send_requests();
	take_frames();
	if (gpt2_wire_lost(&gpt2_connection))
		reset_connection(ENDING_ENGINE);
}

/* Tells the engine that nobody wants the answer; leaves with the next flush.  Never raises. */
static void
send_cancel(Gpt2Request *request)
{
	bool		sent = request->sent;

	if (request->state == REQUEST_WAITING)
		finish_request(request, REQUEST_ANSWERED);
	/* Closing cancels everything; what others still wait for is sent again. */
	if (sent && !gpt2_wire_send(&gpt2_connection, G2_MSG_CANCEL, request->id, NULL, 0))
		reset_connection(ENDING_OURS);
}

/* Cancels leave at once, because nobody may call again for hours.  Never raises. */
static void
flush_cancels(void)
{
	if (!gpt2_connection_is_open() || gpt2_wire_flush(&gpt2_connection))
		return;
	/* An engine that does not read has other worries; a closed socket tells it the same. */
	if (n_in_flight == 0)
		reset_connection(ENDING_OURS);
}

/* ---- the end of requests ---- */

static void
free_request(Gpt2Request *request)
{
	dlist_delete(&request->node);
	n_requests--;
	free_bytes(&request->payload);
	free_bytes(&request->answer);
	for (int i = 0; i < request->n_notices; i++)
		pfree(request->notices[i]);
	pfree(request);
}

void
gpt2_request_release(Gpt2Request *request)
{
	bool		in_flight = request->sent;

	send_cancel(request);
	free_request(request);
	if (in_flight)
		flush_cancels();
}

/* The end of a portal, subtransaction or transaction takes its requests along. */
static void
on_resource_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	dlist_mutable_iter iter;
	bool		in_flight = false;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS || n_requests == 0)
		return;
	dlist_foreach_modify(iter, &requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (request->owner != CurrentResourceOwner)
			continue;
		in_flight |= request->sent;
		send_cancel(request);
		free_request(request);
	}
	if (in_flight)
		flush_cancels();
}

/* The socket would be closed by the exit of the process too, but that may take a while. */
static void
before_exit(int code, Datum arg)
{
	reset_connection(ENDING_OURS);
}

static void
initialize(void)
{
	static bool registered = false;

	if (!request_context)
		request_context = AllocSetContextCreate(TopMemoryContext, "gpt2 requests",
												ALLOCSET_DEFAULT_SIZES);
	if (registered)
		return;
	before_shmem_exit(before_exit, (Datum) 0);
	RegisterResourceReleaseCallback(on_resource_release, NULL);
	registered = true;
}

/* ---- requests ---- */

Gpt2Request *
gpt2_request(g2_message type, const g2_writer *payload)
{
	Gpt2Request *request;

	initialize();
	if (payload->failed || payload->len > G2_MAX_PAYLOAD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("request to the gpt2 engine is too large"),
				 errdetail("It has %zu bytes; the limit is %u MB.", payload->len,
						   G2_MAX_PAYLOAD >> 20)));
	if (n_requests >= G2_MAX_IN_FLIGHT)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many requests to the gpt2 engine at once"),
				 errdetail("The limit of one session is %d.", G2_MAX_IN_FLIGHT)));
	request = MemoryContextAllocZero(request_context, sizeof *request);
	request->payload = keep_bytes(payload->data, payload->len);
	if (!request->payload)
	{
		pfree(request);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed on a request of %zu bytes.", payload->len)));
	}
	request->payload_len = payload->len;
	request->id = next_id++;
	request->type = type;
	request->owner = CurrentResourceOwner;
	dlist_push_tail(&requests, &request->node);
	n_requests++;
	n_unsent++;
	return request;
}

static void
raise_notice(const char *payload, uint32 len)
{
	g2_notice	notice;
	char	   *message,
			   *hint;
	int			elevel = NOTICE;

	if (!g2_notice_decode(payload, len, &notice) || notice.message.len == 0)
		return;
	if (notice.level == G2_LEVEL_WARNING)
		elevel = WARNING;
	else if (notice.level < G2_LEVEL_NOTICE)
		elevel = DEBUG1;
	message = gpt2_message_text(notice.message);
	hint = gpt2_message_text(notice.hint);
	ereport(elevel,
			(errmsg_internal("%s", message),
			 hint ? errhint("%s", hint) : 0));
}

static void
raise_notices(Gpt2Request *request)
{
	while (request->n_notices > 0)
	{
		char	   *payload = request->notices[0];
		uint32		len = request->notice_len[0];

		request->n_notices--;
		memmove(request->notices, request->notices + 1,
				request->n_notices * sizeof request->notices[0]);
		memmove(request->notice_len, request->notice_len + 1,
				request->n_notices * sizeof request->notice_len[0]);
		raise_notice(payload, len);
		pfree(payload);
	}
}

/* Raises what ended a request without an answer. */
static void
check_state(const Gpt2Request *request)
{
	if (request->state == REQUEST_ENGINE_DIED)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("gpt2 engine ended %d times during this request", MAX_DEATHS),
				 errdetail("The engine is started again by itself; the server log has the "
						   "cause."),
				 errhint("Try again.")));
	if (request->state == REQUEST_NO_ENGINE)
		elog(ERROR, "no gpt2 engine is running");
	if (request->state == REQUEST_NO_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed on an answer of %zu bytes.", request->answer_len)));
}

/* Waits until the request is answered or cannot be. */
static void
wait_for_end(Gpt2Request *request)
{
	if (request->state == REQUEST_WAITING)
		catch_up();
	for (;;)
	{
		raise_notices(request);
		if (request->state != REQUEST_WAITING)
			break;
		make_progress(request);
		if (request->state == REQUEST_WAITING && gpt2_connection_is_open())
		{
			gpt2_connection_wait(WAKE_MS);
			take_frames();
		}
	}
}

void
gpt2_request_wait(Gpt2Request *request)
{
	wait_for_end(request);
	check_state(request);
}

const char *
gpt2_request_result(Gpt2Request *request, g2_message expected, size_t *len)
{
	check_state(request);
	if (request->state == REQUEST_WAITING)
		elog(ERROR, "request to the gpt2 engine has no answer yet");
	if (request->answer_type == G2_MSG_ERROR)
		gpt2_raise_error(request->answer, request->answer_len);
	if (request->answer_type != expected)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("unexpected answer of type %d from the gpt2 engine",
						(int) request->answer_type)));
	*len = request->answer_len;
	return request->answer;
}

char *
gpt2_ask_running(g2_message type, g2_message expected, size_t *len)
{
	g2_writer	nothing = {.data = NULL};
	Gpt2Request *request;
	const char *payload;
	char	   *copy = NULL;

	initialize();
	catch_up();
	if (!gpt2_connection_try())
		return NULL;
	request = gpt2_request(type, &nothing);
	request->starts_none = true;
	wait_for_end(request);
	if (request->state != REQUEST_NO_ENGINE)
	{
		payload = gpt2_request_result(request, expected, len);
		copy = palloc(*len + 1);
		memcpy(copy, payload, *len);
	}
	gpt2_request_release(request);
	return copy;
}
