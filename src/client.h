/*
 * client.h: a backend's connection to the engine.
 *
 * One connection per backend, opened by the first request (which starts supervisor and engine when
 * they are not there) and kept until the backend exits.  Requests are sent without waiting for
 * one another; each is a Gpt2Request until it is released.
 *
 * The engine is told who asks before the first request and whenever that changes, and what it asks
 * about roles is answered in the wait.
 *
 * A request belongs to the resource owner that was current when it was made: the end of a portal,
 * a transaction or a subtransaction cancels what is still in flight and frees it.  Its payload is
 * kept until it is answered, so that it can be sent again to a restarted engine.
 */
#ifndef GPT2_CLIENT_H
#define GPT2_CLIENT_H

#include "wire.h"

typedef struct Gpt2Request Gpt2Request;

/* Queues a request with this payload (copied) and returns at once; what is queued leaves with the
 * next wait, so that requests made together travel in one send. */
extern Gpt2Request *gpt2_request(g2_message type, const g2_writer *payload);

/* Waits until the request is answered.  Interruptible; raises 58000 when the engine died twice
 * under it or does not come back.  Notices of the engine are raised as they come. */
extern void gpt2_request_wait(Gpt2Request *request);

/* The next token of a GENERATE with G2_GEN_STREAM, as soon as it is there; its span is valid until
 * the next call.  False: there is none any more, the request is answered.  Interruptible, and
 * raises, as wait does. */
extern bool gpt2_request_next_token(Gpt2Request *request, g2_stream *token);

/* After wait: the payload of its answer, valid until release.  An ERROR answer is raised here
 * with its SQLSTATE, message, detail and hint; another type than expected is an internal error. */
extern const char *gpt2_request_result(Gpt2Request *request, g2_message expected, size_t *len);

extern void gpt2_request_release(Gpt2Request *request);

/*
 * A request that is made ahead of its time may have several users, and be gone before they come for
 * it: the end of its resource owner frees it whoever counts on it.  So it is known by its number.
 */
extern uint64 gpt2_request_id(const Gpt2Request *request);

/* NULL: it is gone. */
extern Gpt2Request *gpt2_request_find(uint64 id);

/* One more user, who releases it as the first does. */
extern void gpt2_request_share(Gpt2Request *request);

/* It has other users, who have not released it yet. */
extern bool gpt2_request_is_shared(const Gpt2Request *request);

/* Waits for its answer, as wait does.  NULL when it is gone, or has no answer but an error that is
 * not the row's: then it is released, and whoever wants the answer asks again. */
extern Gpt2Request *gpt2_request_redeem(uint64 id);

/* The query has stopped where it may go on later: what is in flight gives way to others until then.
 * Never raises. */
extern void gpt2_requests_park(void);

/* This session is near the limit of requests in flight. */
extern bool gpt2_requests_are_many(void);

/* Asks a running engine (a request without payload) and never starts one: a palloc'd copy of the
 * answer's payload, or NULL when there is no engine, it ends meanwhile, or, with a WARNING, does not
 * answer within two seconds.  *silent says whether that was it; NULL = the caller need not know. */
extern char *gpt2_ask_running(g2_message type, g2_message expected, size_t *len, bool *silent);

#endif							/* GPT2_CLIENT_H */
