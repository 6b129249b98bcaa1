/*
 * engine_state.h: the engine's inside, shared by engine.c (open, run, timers), arrival.c (clients
 * and requests that come in), tell.c (what clients tell), work.c (what becomes of requests) and watch.c
 * (what can be seen).
 *
 * Everything here belongs to the thread that calls g2_engine_run.
 */
#ifndef G2_ENGINE_STATE_H
#define G2_ENGINE_STATE_H

#include "helper.h"
#include "program.h"
#include "progress.h"
#include "request.h"
#include "result_cache.h"
#include "scheduler.h"
#include "usage.h"

#define G2_MAX_QUEUED 32768		/* requests that are not answered yet, where no setting says more */

#define G2_SAVE_EVERY_US 10000000	/* counters that have changed */

/* Counters on their way to the disk; the helper thread's while running. */
typedef struct g2_save
{
	g2_job		job;			/* first */
	g2_engine  *engine;
	g2_usage_copy *copy;		/* NULL: none is under way */
	bool		ok;
	bool		told;			/* that it does not work */
	g2_error	error;
} g2_save;

struct g2_engine
{
	int			epoll_fd;
	int			device_fd;		/* eventfd of the back end */
	int			helper_fd;		/* eventfd of helper and registry */
	int			timer_fd;
	int64_t		timer_at;		/* what it is set to; INT64_MAX = off */
	const g2_backend_api *api;
	g2_backend *backend;
	g2_helper  *helper;
	g2_helper  *long_helper;	/* so that long texts hold up nobody but each other */
	g2_registry *registry;
	g2_scheduler *scheduler;
	g2_people	people;
	g2_kv_pool	kv_pools[G2_KV_POOLS];	/* the CPU's, the device's */
	g2_usage   *usage;
	g2_result_cache *results;
	g2_grammars *grammars;
	g2_masks   *masks;
	g2_request *first;			/* in order of arrival */
	g2_request *last;
	uint32_t	n_requests;
	uint64_t	held_bytes;		/* their payloads */
	g2_progress *progresses;	/* long work of clients */
	uint32_t	threads;
	int64_t		started_at;		/* wall clock, microseconds since 1970 */
	g2_log_fn	log;
	void	   *log_arg;
	g2_ending	ending;
	g2_program	program;
	bool		told_replaced;	/* that another program is installed */
	/* settings */
	uint32_t	max_queued;
	double		price_per_us;
	bool		disabled;
	int64_t		idle_timeout_us;	/* 0 = never */
	/* times, monotonic microseconds */
	int64_t		loading_tick;	/* the next look at those that wait for a load; INT64_MAX = none */
	int64_t		save_at;		/* counters are to be saved; INT64_MAX = nothing new */
	int64_t		idle_since;		/* when the last request ended */
	g2_save		save;			/* of counters, when one runs */
};

struct g2_client
{
	g2_engine  *engine;
	void	   *owner;
	g2_answer_fn answer;
	uint32_t	pid;
	uint32_t	database;
	g2_session *session;		/* of its session user, by now */
	g2_request *first;			/* its own, in order of arrival */
	g2_request *last;
};

extern void g2_engine_log(g2_engine *engine, g2_level level, const char *fmt,...)
			G2_PRINTF(3, 4);

/* arrival.c: a request that is over leaves the list and is freed. */
extern void g2_request_free(g2_request *request);

/* engine.c: whether another program is installed than the one that runs, which is logged once. */
extern bool g2_engine_replaced(g2_engine *engine);

/* work.c: whether it may use its model, as far as is known.  False: the backend, which knows who is
 * a member, has been asked by ROLES, and the request is freed. */
extern bool g2_request_permitted(g2_request *request);

/* work.c: the model is there; the request goes on. */
extern void g2_request_ready(g2_request *request);

/* work.c: it was refused or failed before any work was done: answers and frees it. */
extern void g2_request_refuse(g2_request *request, const g2_error *err);

/* work.c: it was cancelled before it had a group: frees it. */
extern void g2_request_drop(g2_request *request);

/* check.c: CHECK_MODEL: looks at the folder and answers. */
extern void g2_request_check_model(g2_request *request);

/* work.c: what it has used is counted for its role; of a group that is not its last one too. */
extern void g2_request_count(const g2_request *request, const g2_usage_delta *delta);
extern void g2_request_count_group(const g2_request *request, const g2_group *group);

/* work.c: makes a group of the prompt, whose ids are taken over or wiped, and hands it to the
 * scheduler. */
extern bool g2_request_start_group(g2_request *request, const g2_group_options *options,
								   g2_ids *prompt, g2_group **group, g2_error *err);

/* turn.c: a helper thread has (more) work to do for it. */
extern void g2_request_queue_work(g2_request *request);

/* turn.c: the job's done function. */
extern void g2_request_worked(g2_job *job);

/* turn.c: in phase TURN, and nobody waits for it any more: frees it. */
extern void g2_request_withdraw(g2_request *request);

/* work.c: that work is done, and its turn has come. */
extern void g2_request_go_on(g2_request *request);

/* watch.c: INFO, MODELS, REQUESTS, USAGE, ENGINE, PROGRESSES: the answer's payload and its type. */
extern g2_message g2_watch(g2_engine *engine, g2_message type, g2_writer *w);

#endif							/* G2_ENGINE_STATE_H */
