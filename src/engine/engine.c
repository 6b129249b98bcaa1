/*
 * engine.c: the engine as a whole: opening, closing, settings, and what happens when.
 *
 * Times: one timer for all that has to happen at a time (notices about loads, limits of roles,
 * saving of counters, the end of an idle engine).  Without any of these nothing wakes it: an idle
 * engine does not run.
 */
#include "engine_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "arrival.h"
#include "device_failures.h"
#include "devices.h"
#include "machine.h"

#define HELPER_THREADS 2
#define DEFAULT_RESULT_CACHE ((uint64_t) 64 << 20)
#define MASKS_KEPT ((size_t) 64 << 20)

void
g2_engine_log(g2_engine *engine, g2_level level, const char *fmt,...)
{
	char		line[1024];
	va_list		ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	engine->log(engine->log_arg, level, line);
}

uint32_t
g2_engine_live(const g2_engine *engine)
{
	return engine->n_requests;
}

/* ---- the engine itself ---- */

/* True: there was something. */
static bool
drain(int fd)
{
	uint64_t	count;
	bool		any = false;

	while (read(fd, &count, sizeof count) > 0)
		any = true;
	return any;
}

g2_ending
g2_engine_ending(const g2_engine *engine)
{
	return engine->ending;
}

bool
g2_engine_replaced(g2_engine *engine)
{
	bool		replaced = g2_program_replaced(&engine->program);

	if (replaced && !engine->told_replaced)
		g2_engine_log(engine, G2_LEVEL_LOG, "another gpt2 engine is installed than the one that "
					  "runs (%s): gpt_restart_engine() starts it", G2_VERSION);
	engine->told_replaced |= replaced;
	return replaced;
}

/* ---- counters ---- */

static void
tell_unsaved(g2_engine *engine, const g2_error *why)
{
	/* Once until it works again. */
	if (!engine->save.told)
		g2_engine_log(engine, G2_LEVEL_WARNING, "could not save the usage counters: %s",
					  why->message);
	engine->save.told = true;
}

static void
save_run(g2_job *job)
{
	g2_save    *save = (g2_save *) job;

	save->ok = g2_usage_write(save->copy, &save->error);
}

static void
save_done(g2_job *job)
{
	g2_save    *save = (g2_save *) job;

	g2_usage_written(save->engine->usage, save->copy, save->ok);
	save->copy = NULL;
	if (save->ok)
		save->told = false;
	else
	{
		tell_unsaved(save->engine, &save->error);
		save->engine->save_at = g2_now_us() + G2_SAVE_EVERY_US;
	}
}

/* On a helper thread, since it waits for the disk. */
static void
save_counters(g2_engine *engine)
{
	g2_save    *save = &engine->save;
	g2_error	err;

	engine->save_at = INT64_MAX;
	if (save->copy)
		engine->save_at = g2_now_us() + G2_SAVE_EVERY_US;
	else if (!g2_usage_snapshot(engine->usage, &save->copy, &err))
	{
		tell_unsaved(engine, &err);
		engine->save_at = g2_now_us() + G2_SAVE_EVERY_US;
	}
	else if (save->copy)
	{
		save->engine = engine;
		save->job = (g2_job) {.run = save_run, .done = save_done};
		save->ok = false;		/* what stands when it does not get to run */
		g2_helper_submit(engine->helper, &save->job);
	}
}

/* The last of them are saved too. */
static void
close_counters(g2_engine *engine)
{
	g2_error	err;

	if (engine->usage && !g2_usage_save(engine->usage, &err))
		tell_unsaved(engine, &err);
	g2_usage_close(engine->usage);
}

/* ---- times ---- */

/* When it ends because nobody needs it; INT64_MAX = not.  The next engine knows nothing of the tokens
 * that limits per minute have counted, so these have to flow back first. */
static int64_t
idle_end(const g2_engine *engine)
{
	if (engine->idle_timeout_us == 0 || engine->n_requests > 0)
		return INT64_MAX;
	return G2_MAX(engine->idle_since + engine->idle_timeout_us,
				  g2_people_even_at(&engine->people));
}

/* When something has to be done though nothing ends. */
static int64_t
next_time(const g2_engine *engine)
{
	int64_t		at = G2_MIN(engine->loading_tick, engine->save_at);

	at = G2_MIN(at, idle_end(engine));
	return G2_MIN(at, g2_scheduler_wake_at(engine->scheduler));
}

static void
set_timer(g2_engine *engine)
{
	int64_t		at = next_time(engine);
	struct itimerspec t = {.it_value.tv_sec = 0};

	if (at == engine->timer_at)
		return;
	engine->timer_at = at;
	if (at != INT64_MAX)
	{
		at = G2_MAX(at, 1);		/* 0 would turn it off */
		t.it_value.tv_sec = at / 1000000;
		t.it_value.tv_nsec = at % 1000000 * 1000;
	}
	timerfd_settime(engine->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static void
look_at_times(g2_engine *engine)
{
	int64_t		now = g2_now_us();

	if (now >= engine->loading_tick)
		g2_engine_tell_loading(engine);
	if (now >= engine->save_at)
		save_counters(engine);
	if (now >= idle_end(engine))
		engine->ending = G2_ENDING_IDLE;
}

void
g2_engine_run(g2_engine *engine)
{
	/* Drained before the results are taken: an end that comes after is then seen next time. */
	drain(engine->device_fd);
	drain(engine->helper_fd);
	if (drain(engine->timer_fd))
		engine->timer_at = INT64_MAX;
	g2_helper_collect(engine->helper);
	g2_helper_collect(engine->long_helper);
	g2_registry_collect(engine->registry);
	g2_scheduler_run(engine->scheduler);
	if (g2_devices_lost(engine->backend))
		engine->ending = G2_ENDING_LOST;
	look_at_times(engine);
	set_timer(engine);
}

int
g2_engine_fd(const g2_engine *engine)
{
	return engine->epoll_fd;
}

static void
take_settings(g2_engine *engine, const g2_settings *settings)
{
	uint64_t	results = settings->result_cache_size;

	for (int i = 0; i < G2_N_LIMITS; i++)
		engine->people.limits[i] = settings->has_limits ? settings->limits[i] : G2_UNLIMITED;
	engine->people.limits_set = true;
	engine->max_queued = settings->max_queued ? settings->max_queued : G2_MAX_QUEUED;
	engine->price_per_us = settings->price_per_hour / 3.6e9;
	engine->idle_timeout_us = (int64_t) settings->idle_timeout_s * 1000000;
	g2_scheduler_set_step_tokens(engine->scheduler, settings->step_tokens);
	g2_scheduler_set_speculation(engine->scheduler, !settings->no_speculation);
	if (results == 0)
		results = DEFAULT_RESULT_CACHE;
	g2_result_cache_set_capacity(engine->results, results == G2_NO_RESULT_CACHE ? 0 : results);
	if (settings->disabled && !engine->disabled)
		g2_engine_disable(engine);
	engine->disabled = settings->disabled != 0;
}

bool
g2_engine_configure(g2_engine *engine, const g2_settings *settings, g2_error *err)
{
	take_settings(engine, settings);
	return g2_registry_configure(engine->registry, settings, err);
}

static bool
open_descriptors(g2_engine *engine, g2_error *err)
{
	int			fds[3];

	engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	fds[0] = engine->device_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[1] = engine->helper_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[2] = engine->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	for (size_t i = 0; i < G2_LENGTH(fds); i++)
	{
		struct epoll_event event = {.events = EPOLLIN};

		if (fds[i] < 0 || epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fds[i], &event) != 0)
			return g2_fail_errno(err, errno, "set up", "event descriptors");
	}
	return true;
}

static void
log_registry(void *arg, g2_level level, const char *message)
{
	g2_engine_log(arg, level, "%s", message);
}

static void
log_device(void *arg, const char *line)
{
	g2_engine_log(arg, G2_LEVEL_LOG, "%s", line);
}

/* gpt2.kv_cache_size for each device.  By default 1 GB on the CPU, an eighth of the machine's memory at
 * most; and three quarters of a device's own, so that models find room beside texts. */
static void
set_budgets(g2_engine *engine, uint64_t setting)
{
	g2_kv_pool *cpu = &engine->kv_pools[0],
			   *own = &engine->kv_pools[1];
	g2_backend_device device;

	engine->api->describe(engine->backend, &device);
	cpu->budget = setting > 0 ? setting : G2_MIN((uint64_t) 1 << 30, g2_machine_memory() / 8);
	own->budget = setting > 0 ? G2_MIN(setting, device.free_bytes) : device.free_bytes / 4 * 3;
	own->index = 1;
}

static bool
shrink_cache(void *arg)
{
	g2_engine  *engine = arg;

	return g2_kv_shrink(&engine->kv_pools[1]);
}

static bool
open_parts(g2_engine *engine, const g2_settings *settings, g2_error *err)
{
	char		isa[32];
	g2_error	ignored = {0};
	char		device[32];
	g2_backend_options backend_options = {.isa = isa, .devices = device,
		.log = log_device, .log_arg = engine, .device_memory = settings->device_memory,
		.shrink = shrink_cache, .shrink_arg = engine,
		.failures = settings->system_identifier ? G2_DEVICE_FAILURES_FILE : NULL};
	g2_registry_options registry_options = {
		.event_fd = engine->helper_fd,
		.permits = g2_engine_permits,
		.loaded = g2_engine_loaded,
		.log = log_registry,
		.arg = engine,
	};

	snprintf(isa, sizeof isa, "%.*s", (int) G2_MIN(settings->cpu.len, sizeof isa - 1),
			 settings->cpu.len ? settings->cpu.data : "");
	if (!isa[0])
		strcpy(isa, "auto");
	snprintf(device, sizeof device, "%.*s", (int) G2_MIN(settings->device.len, sizeof device - 1),
			 settings->device.len ? settings->device.data : "");
	if (!device[0])
		strcpy(device, "auto");
	engine->threads = settings->threads ? settings->threads : g2_machine_cores();
	backend_options.nice = settings->nice;
	backend_options.threads = engine->threads;
	engine->api = &g2_devices_backend;
	if (!engine->api->open(&backend_options, engine->device_fd, &engine->backend, err))
		return false;
	set_budgets(engine, settings->kv_cache_size);
	registry_options.api = engine->api;
	registry_options.backend = engine->backend;
	registry_options.kv_pool = &engine->kv_pools[0];
	registry_options.device_pool = &engine->kv_pools[1];
	if (!g2_usage_open(G2_USAGE_FILE, settings->system_identifier, settings->timeline,
					   g2_usage_month_now, &engine->usage, &ignored, err))
		return false;
	if (ignored.code != G2_OK)
		g2_engine_log(engine, G2_LEVEL_LOG, "the usage counters start at zero: %s",
					  ignored.message);
	return g2_result_cache_open(DEFAULT_RESULT_CACHE, &engine->results, err) &&
		g2_grammars_open(&engine->grammars, err) &&
		g2_masks_open(MASKS_KEPT, &engine->masks, err) &&
		g2_registry_open(&registry_options, &engine->registry, err) &&
		g2_helper_open(HELPER_THREADS, engine->helper_fd, &engine->helper, err) &&
		g2_helper_open(1, engine->helper_fd, &engine->long_helper, err) &&
		g2_scheduler_open(engine->api, engine->backend, engine->device_fd, &engine->people,
						  &engine->scheduler, err) &&
		g2_engine_configure(engine, settings, err);
}

bool
g2_engine_open(const g2_settings *settings, g2_log_fn log, void *log_arg, g2_engine **out,
			   g2_error *err)
{
	g2_engine  *engine = g2_alloc(sizeof *engine);

	if (!engine)
		return g2_fail_memory(err, sizeof *engine);
	engine->log = log;
	engine->log_arg = log_arg;
	g2_people_init(&engine->people);
	g2_program_note(&engine->program, G2_RUNNING_PROGRAM);
	engine->epoll_fd = engine->device_fd = engine->helper_fd = engine->timer_fd = -1;
	engine->timer_at = engine->loading_tick = engine->save_at = INT64_MAX;
	engine->idle_since = g2_now_us();
	engine->started_at = g2_wall_clock(engine->idle_since);
	if (!open_descriptors(engine, err) || !open_parts(engine, settings, err))
	{
		g2_engine_close(engine);
		return false;
	}
	*out = engine;
	return true;
}

void
g2_engine_close(g2_engine *engine)
{
	if (!engine)
		return;
	g2_engine_cancel_all(engine);
	g2_helper_close(engine->helper);	/* frees the requests that it has */
	g2_helper_close(engine->long_helper);
	g2_scheduler_close(engine->scheduler);	/* likewise */
	g2_registry_close(engine->registry);
	close_counters(engine);
	g2_result_cache_close(engine->results);
	g2_grammars_close(engine->grammars);
	g2_masks_close(engine->masks);
	g2_people_close(&engine->people);
	if (engine->backend)
		engine->api->close(engine->backend);
	if (engine->epoll_fd >= 0)
		close(engine->epoll_fd);
	if (engine->device_fd >= 0)
		close(engine->device_fd);
	if (engine->helper_fd >= 0)
		close(engine->helper_fd);
	if (engine->timer_fd >= 0)
		close(engine->timer_fd);
	g2_free(engine);
}
