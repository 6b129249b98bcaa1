/*
 * engine.h: the engine as one object: requests go in as protocol messages, answers come out as
 * protocol messages, and between them one thread, the caller's, advances everything.
 *
 * The server (server.c) puts sockets in front of it; the command line (cli.c) and tests call it
 * directly.  It is the only header of the engine that those need.
 *
 * Who runs where: all functions here are called by one thread and never wait.  Long work happens
 * on helper threads (tokenizing, packing: helper.c) and in the back end (backend.h); their ends
 * make the descriptor of g2_engine_fd readable, and g2_engine_run then takes the results.
 *
 * Layers, each calling downwards only:
 *     engine.c     opening, settings, times
 *     arrival.c    clients, and requests up to the point where work begins
 *     tell.c       what clients tell: session, roles, progress
 *     work.c       requests from there to their answers; result cache; what they count for
 *     watch.c      what can be seen of the engine
 *     progress.c   long work of backends, as they tell of it
 *     answer.c     payloads of answers
 *     scheduler.c  sequence groups: whose turn it is
 *     admission.c  sequence groups: from the queue to the device and back
 *     queue.c      sequence groups that wait: order, limits
 *     session.c    who asks: sessions and roles
 *     visit.c      one visit of the device: its plan; visit_take.c: what its result does
 *     group.c      one group: prompt, sequences, stop strings, text
 *     registry.c   models: loading, waiting, unloading
 *     kv.c         blocks of the KV cache: reference counts, copy on write, shared prefixes
 *     kv_slab.c    the memory of those, which models have in common
 *     helper.c     threads for long work
 */
#ifndef G2_ENGINE_H
#define G2_ENGINE_H

#include "error.h"
#include "protocol_watch.h"

typedef struct g2_engine g2_engine;
typedef struct g2_client g2_client;

/* An answer (or notice, or token) to request `id` of `owner`; payload is valid during the call
 * only.  It may come from within g2_engine_submit, and must not call the engine. */
typedef void (*g2_answer_fn) (void *owner, g2_message type, uint64_t id, const void *payload,
							  size_t len);

/* A line for the log. */
typedef void (*g2_log_fn) (void *arg, g2_level level, const char *message);

/* Settings are copied.  Starts helper threads and the back end; loads no model. */
extern bool g2_engine_open(const g2_settings *settings, g2_log_fn log, void *log_arg,
						   g2_engine **out, g2_error *err);

/* Cancels everything without answers, waits for the threads, frees. */
extern void g2_engine_close(g2_engine *engine);

/* Takes over the settings that need no restart: all but those of the device and the threads. */
extern bool g2_engine_configure(g2_engine *engine, const g2_settings *settings, g2_error *err);

/* Readable when g2_engine_run has something to do. */
extern int	g2_engine_fd(const g2_engine *engine);

/* Does all that can be done without waiting.  Call it when the descriptor is readable and after
 * a burst of submits (requests submitted together then share their first step). */
extern void g2_engine_run(g2_engine *engine);

/* Somebody who asks; `owner` and `answer` are for its answers. */
extern bool g2_engine_attach(g2_engine *engine, void *owner, g2_answer_fn answer,
							 const g2_hello *hello, g2_client **out, g2_error *err);

/* Ends all its requests without an answer. */
extern void g2_engine_detach(g2_client *client);

/* SESSION, ACCESS, PROGRESS or PARK.  False: malformed, or no memory; the client is to be detached. */
extern bool g2_engine_tell(g2_client *client, g2_message type, const void *payload, size_t len,
						   g2_error *err);

/* Takes a request; whatever is wrong with it is said by an ERROR answer, perhaps at once. */
extern void g2_engine_submit(g2_client *client, uint64_t id, g2_message type,
							 const void *payload, size_t len);

/* Ends one request without an answer; false when it was answered already. */
extern bool g2_engine_cancel(g2_client *client, uint64_t id);

/* Whether the engine wants to end, and why: in good order, but for LOST: its CUDA device has failed,
 * and only a new process can open it again. */
typedef enum g2_ending
{
	G2_ENDING_NONE, G2_ENDING_RESTART, G2_ENDING_IDLE, G2_ENDING_DISABLED, G2_ENDING_LOST
} g2_ending;

extern g2_ending g2_engine_ending(const g2_engine *engine);

/* Requests that are not answered yet. */
extern uint32_t g2_engine_live(const g2_engine *engine);

#endif							/* G2_ENGINE_H */
