/*
 * flight.h: the requests of this backend on their way to the engine and back; for client.c.
 *
 * Functions that say so never raise, so they can be called while a transaction is aborted.
 */
#ifndef GPT2_FLIGHT_H
#define GPT2_FLIGHT_H

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/resowner.h"

#include "client.h"

#define GPT2_MAX_DEATHS 2

typedef enum Gpt2RequestState
{
	REQUEST_WAITING,
	REQUEST_ROLES,				/* the engine asks whether the user is a member of roles */
	REQUEST_ANSWERED,
	REQUEST_ENGINE_DIED,
	REQUEST_NO_ENGINE,			/* one that starts none, and there is none */
	REQUEST_NO_MEMORY,
	REQUEST_OTHER_TEXT			/* the next engine makes another one */
} Gpt2RequestState;

/* A payload that waits for somebody to take it. */
typedef struct Gpt2Kept
{
	dlist_node	node;
	uint32		len;
	char		data[FLEXIBLE_ARRAY_MEMBER];
} Gpt2Kept;

struct Gpt2Request
{
	dlist_node	node;
	uint64		id;
	g2_message	type;
	Oid			user;			/* the current user when it was made */
	ResourceOwner owner;
	int			users;			/* who will release it; the end of the owner does not ask */
	Gpt2RequestState state;
	bool		sent;			/* over the open connection */
	bool		starts_none;	/* asks a running engine only */
	int			deaths;
	int			goodbyes;
	int			asked;			/* how often the engine has asked for roles */
	uint64		access;			/* the open connection's token of the roles that the user is a
								 * member of; 0 = none */
	char	   *payload;		/* NULL when answered */
	size_t		payload_len;
	g2_message	answer_type;
	char	   *answer;			/* while the engine asks: the roles */
	size_t		answer_len;
	Gpt2Kept   *heard;			/* the notice that was taken last */
	int			n_notices;
	dlist_head	notices;		/* Gpt2Kept; payloads of NOTICE */
	dlist_head	tokens;			/* Gpt2Kept; payloads of STREAM, in order */
	uint32		next_pos;		/* all tokens before it have arrived, */
	uint64		digest;			/* of their payloads */
	uint32		here_pos;		/* the same of the open connection */
	uint64		here_digest;
	Gpt2Kept   *token;			/* that was taken last */
};

/* All of them, in the order of their numbers, and where they live. */
extern dlist_head gpt2_requests;
extern MemoryContext gpt2_request_context;

/* flight_kept.c.  A copy that outlives transactions; NULL when there is no memory. */
extern char *gpt2_keep_bytes(const char *data, size_t len);
extern void gpt2_free_bytes(char **p);

/* The same at the end of the list; false when there is no memory. */
extern bool gpt2_keep_in(dlist_head *list, const char *data, uint32 len);
extern void gpt2_free_kept(dlist_head *list);

/* Keeps a notice, unless there is no room or memory for it, or it has been taken from another. */
extern void gpt2_flight_keep_notice(Gpt2Request *request, const char *payload, uint32 len);

/* Takes the next notice, which is valid until the next call; NULL: there is none.  Other requests
 * do not get the same one any more. */
extern const Gpt2Kept *gpt2_flight_notice(Gpt2Request *request);

/* A new request, waiting; the payload is copied. */
extern Gpt2Request *gpt2_flight_add(g2_message type, const g2_writer *payload);

/* Cancels it and frees it.  Never raises. */
extern void gpt2_flight_drop(Gpt2Request *request);

/* The same for all of this resource owner.  Never raises. */
extern void gpt2_flight_drop_owned(ResourceOwner owner);

/* Reads what has arrived, never waits; finds out about an engine that has gone meanwhile before
 * anything is sent to it. */
extern void gpt2_flight_catch_up(void);

/* Connects where necessary (and where `request` may start an engine), sends what is not sent,
 * takes what is there. */
extern void gpt2_flight_progress(Gpt2Request *request);

/* The query has stopped in between, and nobody waits for what is in flight: others may have its
 * room, until somebody waits again.  Never raises. */
extern void gpt2_flight_park(void);

/* Takes what a wait has read. */
extern void gpt2_flight_take(void);

/* NULL: there is none of this number. */
extern Gpt2Request *gpt2_flight_find(uint64 id);

/* How many there are. */
extern int	gpt2_flight_count(void);

/* Its user is a member of the roles that the engine asked for: it is sent again, and so are the
 * user's others that wait for the same. */
extern void gpt2_flight_admit(Gpt2Request *request, uint64 token);

/* Closes the connection.  Never raises. */
extern void gpt2_flight_end(void);

#endif							/* GPT2_FLIGHT_H */
