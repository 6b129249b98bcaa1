/*
 * flight.c: the requests of this backend on their way to the engine and back.
 *
 * A request lives in the list below, in the order of ids (which are never used twice).  It holds
 * its payload until it is answered, so that it can be sent again.  States:
 *
 *     waiting, not sent   queued here, or its engine has died
 *     waiting, sent       in flight on the open connection
 *     roles               the engine does not work before it knows that the user is a member
 *     answered, failed    final
 *
 * Nothing is done between calls: what has arrived meanwhile is read by the next call.  Answers to
 * ids that are not in the list belong to cancelled requests and are dropped.  An interrupt or an
 * error may leave any call by longjmp; list and connection are consistent at each such point.
 *
 * When the engine dies, what was sent counts one death and is sent again over the next connection.
 * A request that has seen GPT2_MAX_DEATHS fails: it may well be what kills the engine.  An engine
 * that says GOODBYE (new settings, an upgrade) is no death; only a bound keeps that from going on
 * for ever.  The tokens of a stream are the same each time, so those that have arrived before are
 * dropped.  Where they are not (the model's files or format have changed meanwhile), the request
 * fails: half of one text and half of another would be neither.
 */
#include "compat.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "engine_connection.h"
#include "flight.h"
#include "progress.h"

#define MAX_GOODBYES 50
#define MAX_QUEUED (16 * 1024 * 1024)	/* bytes that are put behind each other for sending */

dlist_head	gpt2_requests = DLIST_STATIC_INIT(gpt2_requests);
static int	n_requests;
static int	n_unsent;			/* waiting, not sent */
static int	n_in_flight;		/* waiting, sent */
static uint64 next_id = 1;
MemoryContext gpt2_request_context;
static bool said_goodbye;		/* the engine of the open connection */
static bool parked;				/* the engine has been told that nobody waits */

/* ---- states ---- */

static void
finish_request(Gpt2Request *request, Gpt2RequestState state)
{
	if (request->state == REQUEST_WAITING && request->sent)
		n_in_flight--;
	else if (request->state == REQUEST_WAITING)
		n_unsent--;
	request->sent = false;
	request->state = state;
	gpt2_free_bytes(&request->payload);
}

static void
wait_again(Gpt2Request *request)
{
	gpt2_free_bytes(&request->answer);
	request->state = REQUEST_WAITING;
	n_unsent++;
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
	said_goodbye = parked = false;
	dlist_foreach(iter, &gpt2_requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		/* What the next engine asks may be something else. */
		request->access = 0;
		request->here_pos = 0;
		request->here_digest = 0;
		if (request->state == REQUEST_ROLES)
			wait_again(request);
		if (!request->sent)
			continue;
		request->sent = false;
		n_in_flight--;
		n_unsent++;
		request->goodbyes += orderly && ending == ENDING_ENGINE;
		request->deaths += !orderly;
		if (request->starts_none)
			finish_request(request, REQUEST_NO_ENGINE);
		else if (request->deaths >= GPT2_MAX_DEATHS || request->goodbyes >= MAX_GOODBYES)
			finish_request(request, REQUEST_ENGINE_DIED);
	}
}

void
gpt2_flight_end(void)
{
	reset_connection(ENDING_OURS);
}

Gpt2Request *
gpt2_flight_find(uint64 id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &gpt2_requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (request->id == id)
			return request;
	}
	return NULL;
}

int
gpt2_flight_count(void)
{
	return n_requests;
}

/* The one that a frame from the engine belongs to. */
static Gpt2Request *
find_waiting(uint64 id)
{
	Gpt2Request *request = gpt2_flight_find(id);

	return request && request->state == REQUEST_WAITING ? request : NULL;
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

/* ---- what arrives ---- */

static void
keep_answer(Gpt2Request *request, const g2_frame *frame, const char *payload)
{
	request->answer = gpt2_keep_bytes(payload, frame->length);
	request->answer_len = frame->length;
	request->answer_type = (g2_message) frame->type;
	if (frame->type == G2_MSG_ROLES && request->answer)
	{
		n_in_flight--;
		request->sent = false;
		request->state = REQUEST_ROLES;
	}
	else if (frame->type == G2_MSG_COMPLETIONS && request->here_pos < request->next_pos)
		finish_request(request, REQUEST_OTHER_TEXT);
	else
		finish_request(request, request->answer ? REQUEST_ANSWERED : REQUEST_NO_MEMORY);
}

static void
give_up(Gpt2Request *request, Gpt2RequestState why)
{
	send_cancel(request);
	request->state = why;
	flush_cancels();
}

/* False: this is no token.  Where there is no memory for one, here or (which leaves a gap) in the
 * engine, the stream ends. */
static bool
keep_token(Gpt2Request *request, const char *payload, uint32 len)
{
	g2_stream	token;

	if (!g2_stream_decode(payload, len, &token) || token.pos >= G2_MAX_NEW_TOKENS)
		return false;
	request->answer_len = len;
	if (token.pos != request->here_pos)
	{
		give_up(request, REQUEST_NO_MEMORY);
		return true;
	}
	request->here_pos++;
	request->here_digest = hash_bytes_extended((const unsigned char *) payload, (int) len,
											   request->here_digest);
	if (request->here_pos <= request->next_pos)
	{
		/* It has arrived before the engine died. */
		if (request->here_pos == request->next_pos && request->here_digest != request->digest)
			give_up(request, REQUEST_OTHER_TEXT);
	}
	else if (gpt2_keep_in(&request->tokens, payload, len))
	{
		request->next_pos = request->here_pos;
		request->digest = request->here_digest;
	}
	else
		give_up(request, REQUEST_NO_MEMORY);
	return true;
}

/* False: no message that the engine may send. */
static bool
take_frame(const g2_frame *frame, const char *payload)
{
	Gpt2Request *request = find_waiting(frame->id);

	switch ((g2_message) frame->type)
	{
		case G2_MSG_GOODBYE:
			said_goodbye = true;
			return true;
		case G2_MSG_NOTICE:
			if (request)
				gpt2_flight_keep_notice(request, payload, frame->length);
			return true;
		case G2_MSG_STREAM:
			return !request || keep_token(request, payload, frame->length);
		case G2_MSG_ERROR:
		case G2_MSG_DONE:
		case G2_MSG_ROLES:
		case G2_MSG_COMPLETIONS:
		case G2_MSG_SCORES:
		case G2_MSG_MODEL_CHECK:
		case G2_MSG_TOKENS:
		case G2_MSG_TEXT:
		case G2_MSG_MODEL_LIST:
		case G2_MSG_INFO_ROW:
		case G2_MSG_REQUEST_LIST:
		case G2_MSG_USAGE_LIST:
		case G2_MSG_ENGINE_LIST:
		case G2_MSG_PROGRESS_LIST:
			if (request)
				keep_answer(request, frame, payload);
			return true;
		default:
			return false;
	}
}

void
gpt2_flight_take(void)
{
	g2_frame	frame;
	const char *payload;

	while (gpt2_wire_next(&gpt2_connection, &frame, &payload))
	{
		if (take_frame(&frame, payload))
			continue;
		ereport(LOG,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("unexpected message of type %u from the gpt2 engine", frame.type)));
		reset_connection(ENDING_ENGINE);
		return;
	}
	gpt2_wire_taken(&gpt2_connection);
	if (said_goodbye && gpt2_connection_is_open())
		reset_connection(ENDING_ENGINE);
}

void
gpt2_flight_catch_up(void)
{
	if (!gpt2_connection_is_open())
		return;
	(void) gpt2_wire_flush(&gpt2_connection);
	gpt2_wire_fill(&gpt2_connection);
	gpt2_flight_take();
	if (gpt2_wire_lost(&gpt2_connection))
		reset_connection(ENDING_ENGINE);
}

/* ---- what is sent ---- */

static void
set_parked(bool park)
{
	uint32		value = park;

	if (parked != park &&
		gpt2_wire_send(&gpt2_connection, G2_MSG_PARK, 0, &value, sizeof value))
		parked = park;
}

void
gpt2_flight_park(void)
{
	if (n_in_flight == 0 || !gpt2_connection_is_open())
		return;
	set_parked(true);
	(void) gpt2_wire_flush(&gpt2_connection);
}

/* The model's name; every request that an engine asks roles for begins with it. */
static void
send_access(const Gpt2Request *request)
{
	g2_reader	r = g2_read(request->payload, request->payload_len);
	g2_access	access = {.current_user = request->user, .token = request->access};
	g2_writer	w = gpt2_writer();

	access.model = g2_get_span(&r);
	g2_access_encode(&w, &access);
	gpt2_connection_send(G2_MSG_ACCESS, 0, w.data, w.len);
	pfree(w.data);
}

static void
send_requests(void)
{
	dlist_iter	iter;

	if (n_unsent == 0)
		return;
	dlist_foreach(iter, &gpt2_requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (request->state != REQUEST_WAITING || request->sent)
			continue;
		if (gpt2_wire_queued(&gpt2_connection) > MAX_QUEUED)
			break;				/* the rest when these have left */
		if (request->access)
			send_access(request);
		gpt2_connection_send(request->type, request->id, request->payload,
							 request->payload_len);
		request->sent = true;
		n_in_flight++;
		n_unsent--;
	}
}

void
gpt2_flight_progress(Gpt2Request *request)
{
	if (request->starts_none && !gpt2_connection_is_open())
	{
		finish_request(request, REQUEST_NO_ENGINE);
		return;
	}
	gpt2_connection_open();
	gpt2_connection_tell_session();
	gpt2_progress_tell();
	set_parked(false);
	send_requests();
	(void) gpt2_wire_flush(&gpt2_connection);
	gpt2_flight_take();
	if (gpt2_wire_lost(&gpt2_connection))
		reset_connection(ENDING_ENGINE);
}

void
gpt2_flight_admit(Gpt2Request *request, uint64 token)
{
	dlist_iter	iter;

	Assert(request->state == REQUEST_ROLES);
	dlist_foreach(iter, &gpt2_requests)
	{
		Gpt2Request *other = dlist_container(Gpt2Request, node, iter.cur);
		bool		same = other->state == REQUEST_ROLES && other->user == request->user &&
			other->answer_len == request->answer_len &&
			memcmp(other->answer, request->answer, request->answer_len) == 0;

		if (same && other != request)
		{
			other->access = token;
			wait_again(other);
		}
	}
	request->access = token;
	wait_again(request);
}

/* ---- beginning and end ---- */

Gpt2Request *
gpt2_flight_add(g2_message type, const g2_writer *payload)
{
	Gpt2Request *request;

	if (!gpt2_request_context)
		gpt2_request_context = AllocSetContextCreate(TopMemoryContext, "gpt2 requests",
												ALLOCSET_DEFAULT_SIZES);
	if (n_requests >= G2_MAX_IN_FLIGHT)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many requests to the gpt2 engine at once"),
				 errdetail("The limit of one session is %d.", G2_MAX_IN_FLIGHT),
				 errhint("Close the cursors on gpt_stream that are read no more.")));
	request = MemoryContextAllocZero(gpt2_request_context, sizeof *request);
	request->payload = gpt2_keep_bytes(payload->data, payload->len);
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
	request->user = GetUserId();
	request->owner = CurrentResourceOwner;
	request->users = 1;
	dlist_init(&request->notices);
	dlist_init(&request->tokens);
	dlist_push_tail(&gpt2_requests, &request->node);
	n_requests++;
	n_unsent++;
	return request;
}

static void
cancel_and_free(Gpt2Request *request)
{
	send_cancel(request);
	dlist_delete(&request->node);
	n_requests--;
	gpt2_free_bytes(&request->payload);
	gpt2_free_bytes(&request->answer);
	gpt2_free_kept(&request->notices);
	gpt2_free_kept(&request->tokens);
	if (request->token)
		pfree(request->token);
	if (request->heard)
		pfree(request->heard);
	pfree(request);
}

void
gpt2_flight_drop(Gpt2Request *request)
{
	bool		in_flight = request->sent;

	cancel_and_free(request);
	if (in_flight)
		flush_cancels();
}

void
gpt2_flight_drop_owned(ResourceOwner owner)
{
	dlist_mutable_iter iter;
	bool		in_flight = false;

	if (n_requests == 0)
		return;
	dlist_foreach_modify(iter, &gpt2_requests)
	{
		Gpt2Request *request = dlist_container(Gpt2Request, node, iter.cur);

		if (request->owner != owner)
			continue;
		in_flight |= request->sent;
		cancel_and_free(request);
	}
	if (in_flight)
		flush_cancels();
}
