/*
 * client.c: requests of this backend to the engine, as its other files see them: made, waited for,
 * read, released; their way to the engine is in flight.c.
 *
 * A model may be for the members of some roles only.  The engine knows no roles: it answers with
 * their names, and membership is looked up here, in the wait (which is in a transaction, unlike
 * the moment when a message arrives), for the user that the request was made by.
 */
#include "compat.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "client.h"
#include "engine_connection.h"
#include "failed_calls.h"
#include "flight.h"
#include "owner.h"
#include "session_user.h"

#define WAKE_MS 500			/* to look after the client, and for changes of limits */
#define LOOK_MS 2000			/* an engine that only is looked at has to answer in that time */
#define MAX_ASKED 1000			/* an engine that asks a request so often does not listen */

/* ---- beginning and end ---- */

/* The end of a portal, subtransaction or transaction takes its requests along. */
static void
on_resource_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase == RESOURCE_RELEASE_BEFORE_LOCKS)
		gpt2_flight_drop_owned(CurrentResourceOwner);
}

/* The socket would be closed by the exit of the process too, but that may take a while. */
static void
before_exit(int code, Datum arg)
{
	gpt2_flight_end();
}

static void
initialize(void)
{
	static bool registered = false;

	if (registered)
		return;
	before_shmem_exit(before_exit, (Datum) 0);
	RegisterResourceReleaseCallback(on_resource_release, NULL);
	registered = true;
}

Gpt2Request *
gpt2_request(g2_message type, const g2_writer *payload)
{
	initialize();
	if (payload->failed || payload->len > G2_MAX_PAYLOAD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("request to the gpt2 engine is too large"),
				 errdetail("It has %zu bytes; the limit is %u MB.", payload->len,
						   G2_MAX_PAYLOAD >> 20),
				 errhint("Send shorter texts.")));
	return gpt2_flight_add(type, payload);
}

void
gpt2_request_release(Gpt2Request *request)
{
	if (--request->users == 0)
		gpt2_flight_drop(request);
}

uint64
gpt2_request_id(const Gpt2Request *request)
{
	return request->id;
}

Gpt2Request *
gpt2_request_find(uint64 id)
{
	return gpt2_flight_find(id);
}

void
gpt2_request_share(Gpt2Request *request)
{
	request->users++;
}

bool
gpt2_request_is_shared(const Gpt2Request *request)
{
	return request->users > 1;
}

bool
gpt2_requests_are_many(void)
{
	return gpt2_flight_count() >= G2_MAX_IN_FLIGHT / 2;
}

void
gpt2_requests_park(void)
{
	gpt2_flight_park();
}

/* ---- waiting ---- */

static void
raise_notices(Gpt2Request *request)
{
	const Gpt2Kept *notice;

	while ((notice = gpt2_flight_notice(request)) != NULL)
		gpt2_raise_notice(notice->data, notice->len);
}

static void
permission_denied(const Gpt2Request *request)
{
	g2_reader	r = g2_read(request->payload, request->payload_len);
	char	   *model = gpt2_message_text(g2_get_span(&r));

	if (!model)
		gpt2_malformed_answer();
	gpt2_raise_model_denied(model, request->user);
}

/* The engine asks whether the request's user is a member of the model's roles. */
static void
look_up_membership(Gpt2Request *request)
{
	g2_roles	roles;

	if (!g2_roles_decode(request->answer, request->answer_len, &roles) ||
		++request->asked > MAX_ASKED)
		gpt2_malformed_answer();
	if (!gpt2_is_member(request->user, &roles))
		permission_denied(request);
	gpt2_flight_admit(request, roles.token);
}

/* Raises what ended a request without an answer. */
static void
check_state(const Gpt2Request *request)
{
	if (request->state == REQUEST_ENGINE_DIED)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("gpt2 engine ended %d times during this request", GPT2_MAX_DEATHS),
				 errdetail("The engine is started again by itself; the server log has the "
						   "cause."),
				 errhint("Try again.")));
	if (request->state == REQUEST_NO_ENGINE)
		elog(ERROR, "no gpt2 engine is running");
	if (request->state == REQUEST_OTHER_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the text cannot be continued: the gpt2 engine was replaced"),
				 errdetail("Its model, or the model's weight format, is another now, and so is "
						   "the text."),
				 errhint("Try again.")));
	if (request->state == REQUEST_NO_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed on an answer of %zu bytes.", request->answer_len)));
}

/* Waits until the request is answered or cannot be, until it has a token where that is enough
 * already, or until the deadline; 0 = none. */
static void
wait_for(Gpt2Request *request, bool token, TimestampTz deadline)
{
	if (request->state == REQUEST_WAITING)
		gpt2_flight_catch_up();
	for (;;)
	{
		raise_notices(request);
		if (request->state == REQUEST_ROLES)
			look_up_membership(request);
		if (request->state != REQUEST_WAITING || (token && !dlist_is_empty(&request->tokens)))
			break;
		gpt2_flight_progress(request);
		if (request->state == REQUEST_WAITING && gpt2_connection_is_open() &&
			!(token && !dlist_is_empty(&request->tokens)))
		{
			if (deadline != 0 && GetCurrentTimestamp() >= deadline)
				break;
			gpt2_connection_wait(WAKE_MS);
			gpt2_flight_take();
		}
	}
}

void
gpt2_request_wait(Gpt2Request *request)
{
	wait_for(request, false, 0);
	check_state(request);
}

Gpt2Request *
gpt2_request_redeem(uint64 id)
{
	Gpt2Request *request = gpt2_flight_find(id);

	if (!request)
		return NULL;
	wait_for(request, false, 0);
	/* An error of the row will be the same again. */
	if (request->state == REQUEST_ANSWERED &&
		(request->answer_type != G2_MSG_ERROR ||
		 gpt2_is_row_error(gpt2_error_sqlstate(request->answer, request->answer_len))))
		return request;
	gpt2_request_release(request);
	return NULL;
}

bool
gpt2_request_next_token(Gpt2Request *request, g2_stream *token)
{
	if (request->token)
		pfree(request->token);
	request->token = NULL;
	if (dlist_is_empty(&request->tokens))
		wait_for(request, true, 0);
	if (dlist_is_empty(&request->tokens))
	{
		check_state(request);
		return false;
	}
	request->token = dlist_container(Gpt2Kept, node, dlist_pop_head_node(&request->tokens));
	if (!g2_stream_decode(request->token->data, request->token->len, token))
		gpt2_malformed_answer();
	return true;
}

/* ---- answers ---- */

const char *
gpt2_request_result(Gpt2Request *request, g2_message expected, size_t *len)
{
	check_state(request);
	if (request->state != REQUEST_ANSWERED)
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

/* The answer's payload, or NULL. */
static char *
ask_before(g2_message type, g2_message expected, size_t *len, TimestampTz deadline, bool *silent)
{
	g2_writer	nothing = {.data = NULL};
	Gpt2Request *request = gpt2_request(type, &nothing);
	const char *payload;
	char	   *copy = NULL;

	request->starts_none = true;
	wait_for(request, false, deadline);
	*silent = request->state == REQUEST_WAITING;
	if (!*silent && request->state != REQUEST_NO_ENGINE)
	{
		payload = gpt2_request_result(request, expected, len);
		copy = palloc(*len + 1);
		memcpy(copy, payload, *len);
	}
	gpt2_request_release(request);
	return copy;
}

char *
gpt2_ask_running(g2_message type, g2_message expected, size_t *len, bool *silent)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_MS);
	char	   *payload = NULL;
	Gpt2Found	found;
	bool		answers_not;

	initialize();
	gpt2_flight_catch_up();
	found = gpt2_connection_try(deadline);
	answers_not = found == FOUND_SILENT;
	if (found == FOUND_ENGINE)
		payload = ask_before(type, expected, len, deadline, &answers_not);
	if (answers_not)
		ereport(WARNING,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the gpt2 engine does not answer, and what it knows is left out"),
				 errdetail("It hangs, or its start takes long."),
				 errhint("Look again; gpt_stop_engine() ends one that hangs, and calls go on in the "
						 "next one.")));
	if (silent)
		*silent = answers_not;
	return payload;
}
