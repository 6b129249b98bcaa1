/*
 * scheduler.c: admission, whose turn it is, how much a visit holds, and how groups end.
 *
 * Phases of a run: take the result of the visit in flight; give up cancelled groups; admit from
 * the queue; plan and submit the next visit.  One visit is in flight at a time, for one model;
 * models take turns.  Nothing waits without a visit in flight: its end is what wakes the engine.
 *
 * Lists: `queue` holds groups that wait, `running` those admitted.  A group is in exactly one.
 */
#include "scheduler.h"

#include <poll.h>
#include <unistd.h>

#include "visit.h"

#define MIN_CHUNK 32			/* prompt rows of a step at least, when there are any */
#define PREFILL_TARGET_US 200000	/* a visit with prompt rows lasts about so long at most */
#define VISIT_TARGET_US 5000	/* a visit of several steps: cancel and arrivals wait no longer */

struct g2_scheduler
{
	const g2_backend_api *api;
	g2_backend *backend;
	int			event_fd;		/* the back end's */
	uint64_t	kv_budget;
	uint64_t	kv_reserved;	/* bytes */
	g2_group   *queue;
	g2_group  **queue_last;
	g2_group   *running;		/* in order of admission */
	g2_group  **running_last;
	uint32_t	free_slots[G2_SLOTS];
	uint32_t	n_free_slots;
	uint64_t	n_turns;		/* counts plans; group.turn is its value */
	g2_visit	visit;
};

bool
g2_scheduler_open(const g2_backend_api *api, g2_backend *backend, int event_fd,
				  uint64_t kv_budget, g2_scheduler **out, g2_error *err)
{
	g2_scheduler *s = g2_alloc(sizeof *s);

	if (!s)
		return g2_fail_memory(err, sizeof *s);
	s->api = api;
	s->backend = backend;
	s->event_fd = event_fd;
	s->kv_budget = kv_budget;
	s->queue_last = &s->queue;
	s->running_last = &s->running;
	for (uint32_t i = 0; i < G2_SLOTS; i++)
		s->free_slots[s->n_free_slots++] = G2_SLOTS - 1 - i;
	*out = s;
	return true;
}

/* ---- lists ---- */

static void
list_append(g2_group ***last, g2_group *group)
{
	group->next = NULL;
	**last = group;
	*last = &group->next;
}

/* *at is taken out; *at is then the next one. */
static g2_group *
list_take(g2_group **at, g2_group ***last)
{
	g2_group   *group = *at;

	*at = group->next;
	if (*last == &group->next)
		*last = at;
	group->next = NULL;
	return group;
}

/* ---- admission ---- */

/* A model's blocks hold one full context at least, also where that is more than the budget. */
static uint64_t
capacity(const g2_scheduler *s, const g2_group *group)
{
	return G2_MAX(s->kv_budget, (uint64_t) group->o.kv->n_blocks * group->o.kv->block_bytes);
}

static uint64_t
need_bytes(const g2_group *group)
{
	return (uint64_t) group->need_blocks * group->o.kv->block_bytes;
}

bool
g2_scheduler_add(g2_scheduler *s, g2_group *group, g2_error *err)
{
	if (group->need_blocks > group->o.kv->n_blocks || need_bytes(group) > capacity(s, group))
	{
		g2_fail(err, G2_E_MEMORY,
				"the KV cache is too small for %u sequences of %zu prompt and %u new tokens",
				group->o.n, group->prompt.len, group->o.max_new);
		g2_fail_detail(err, "They need %llu MB; the cache holds %llu MB.",
					   (unsigned long long) (need_bytes(group) >> 20) + 1,
					   (unsigned long long) (capacity(s, group) >> 20));
		return g2_fail_hint(err,
							"Raise gpt2.kv_cache_size, or ask for fewer or shorter sequences.");
	}
	list_append(&s->queue_last, group);
	return true;
}

/* Slots are set up here: the prompt is the history of each sequence. */
static bool
set_slots(g2_scheduler *s, g2_group *group, g2_error *err)
{
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_slot_state state = {
			.sampling = group->o.sampling,
			.end_token = group->o.end_token,
			.history = group->prompt.data,
			.n_history = (uint32_t) group->prompt.len,
		};

		state.sampling.sequence = i;
		if (!s->api->slot_set(s->backend, group->sequences[i].slot, &state, err))
			return false;
	}
	return true;
}

/* Gives back all that admission took. */
static void
release(g2_scheduler *s, g2_group *group)
{
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_kv_release(group->o.kv, &group->sequences[i].table);
		s->free_slots[s->n_free_slots++] = group->sequences[i].slot;
	}
	s->kv_reserved -= need_bytes(group);
	group->o.kv->n_reserved -= group->need_blocks;
}

static bool
has_room(const g2_scheduler *s, const g2_group *group)
{
	return group->o.n <= s->n_free_slots &&
		group->need_blocks <= group->o.kv->n_blocks - group->o.kv->n_reserved &&
		s->kv_reserved + need_bytes(group) <= capacity(s, group);
}

static void
admit(g2_scheduler *s)
{
	while (s->queue && has_room(s, s->queue))
	{
		g2_group   *group = list_take(&s->queue, &s->queue_last);
		g2_error	err;

		s->kv_reserved += need_bytes(group);
		group->o.kv->n_reserved += group->need_blocks;
		group->turn = s->n_turns;
		for (uint32_t i = 0; i < group->o.n; i++)
			group->sequences[i].slot = s->free_slots[--s->n_free_slots];
		if (set_slots(s, group, &err))
			list_append(&s->running_last, group);
		else
		{
			release(s, group);
			group->o.done(group, &err);
		}
	}
}

/* ---- planning ---- */

static uint32_t
prompt_room(const g2_costs *costs, uint32_t n_decode)
{
	uint32_t	room = G2_VISIT_ROWS - n_decode,
				affordable;

	if (costs->us_per_row <= 0)
		return G2_MIN(room, 128u);	/* not measured yet */
	affordable = (uint32_t) G2_MIN(PREFILL_TARGET_US / costs->us_per_row, (double) G2_VISIT_ROWS);
	return G2_MIN(room, G2_MAX(affordable, (uint32_t) MIN_CHUNK));
}

/* What the running groups of one model want. */
typedef struct demand
{
	uint32_t	n_decode;		/* sequences that decode */
	bool		prefill;
	uint32_t	least_left;		/* tokens that the sequence nearest to its end may still make */
} demand;

static demand
measure(const g2_scheduler *s, const g2_backend_model *model)
{
	demand		d = {.least_left = UINT32_MAX};

	for (const g2_group *group = s->running; group; group = group->next)
	{
		if (group->o.model != model)
			continue;
		if (g2_group_prefilling(group))
		{
			d.prefill = true;
			continue;
		}
		d.n_decode += group->n_live;
		for (uint32_t i = 0; i < group->o.n; i++)
			if (!group->sequences[i].finish)
				d.least_left = G2_MIN(d.least_left,
									  group->o.max_new - (uint32_t) group->sequences[i].ids.len);
	}
	return d;
}

/* Several steps only where nobody has to wait for their end. */
static uint32_t
choose_steps(const g2_scheduler *s, const demand *d, const g2_costs *costs, bool others)
{
	uint32_t	steps;

	if (d->prefill || others || s->queue || costs->us_per_step <= 0)
		return 1;
	steps = (uint32_t) G2_MIN(VISIT_TARGET_US / costs->us_per_step, (double) G2_VISIT_STEPS);
	return G2_MAX(1u, G2_MIN(steps, d->least_left));
}

/* The group has its answer or, with err, has failed. */
static void
end_group(g2_scheduler *s, g2_group **at, const g2_error *err)
{
	g2_group   *group = list_take(at, &s->running_last);

	release(s, group);
	group->o.done(group, err);
}

/* Fills the visit for one model.  A group whose memory cannot be had fails alone. */
static void
plan_model(g2_scheduler *s, const g2_group *chosen, bool others)
{
	g2_visit   *v = &s->visit;
	g2_backend_model *model = chosen->o.model;
	demand		d = measure(s, model);
	uint32_t	room = prompt_room(chosen->o.costs, d.n_decode);
	g2_error	err;

	s->n_turns++;
	v->costs = chosen->o.costs;
	g2_visit_begin(v, model, choose_steps(s, &d, v->costs, others));
	for (g2_group **at = &s->running; *at;)
	{
		g2_group   *group = *at;
		bool		prompt = g2_group_prefilling(group);
		uint32_t	before = v->plan.n_rows;

		if (group->o.model == model)
		{
			group->turn = s->n_turns;
			if ((!prompt || room > 0) && !g2_visit_add(v, group, room, &err))
			{
				end_group(s, at, &err);
				continue;
			}
			if (prompt)
				room -= v->plan.n_rows - before;
		}
		at = &group->next;
	}
}

/* A group of the model whose last turn is the longest ago. */
static const g2_group *
next_model(const g2_scheduler *s, bool *others)
{
	const g2_group *chosen = s->running;

	*others = false;
	for (const g2_group *group = s->running; group; group = group->next)
	{
		if (group->o.model != s->running->o.model)
			*others = true;
		if (group->turn < chosen->turn)
			chosen = group;
	}
	return chosen;
}

/* Ends those that took part in the visit. */
static void
fail_visit(g2_scheduler *s, const g2_error *err)
{
	for (g2_group **at = &s->running; *at;)
		if ((*at)->visit == s->visit.number)
			end_group(s, at, err);
		else
			at = &(*at)->next;
}

/* True: a visit is in flight.  False: nothing runs. */
static bool
submit(g2_scheduler *s)
{
	g2_visit   *v = &s->visit;
	g2_error	err;

	while (s->running)
	{
		bool		others;
		const g2_group *chosen = next_model(s, &others);

		plan_model(s, chosen, others);
		if (v->plan.n_rows == 0)
			continue;			/* its groups have failed: look at the rest */
		v->in_flight = s->api->step_submit(s->backend, &v->plan, &v->result, &err);
		if (v->in_flight)
			return true;
		fail_visit(s, &err);
	}
	return false;
}

/* ---- results ---- */

static void
learn_costs(const g2_visit *v)
{
	double		us = (double) v->result.busy_us;
	uint32_t	n_prompt = v->plan.n_rows - G2_MIN(v->plan.n_rows, v->plan.n_outputs);
	g2_costs   *costs = v->costs;

	if (n_prompt >= 16)
	{
		us /= v->plan.n_rows;
		costs->us_per_row = costs->us_per_row > 0 ? 0.7 * costs->us_per_row + 0.3 * us : us;
	}
	else if (n_prompt == 0)
		costs->us_per_step = us / v->plan.n_steps;
}

static void
take_result(g2_scheduler *s)
{
	g2_visit   *v = &s->visit;
	bool		failed = false;
	g2_error	err;

	if (!v->in_flight || !s->api->step_result(s->backend, &failed, &err))
		return;
	v->in_flight = false;
	if (failed)
	{
		fail_visit(s, &err);
		return;
	}
	learn_costs(v);
	g2_visit_take(v);
	g2_fail_memory(&err, sizeof(g2_group));
	for (g2_group **at = &s->running; *at;)
	{
		if ((*at)->failed)
			end_group(s, at, &err);
		else if ((*at)->n_live == 0)
			end_group(s, at, NULL);
		else
			at = &(*at)->next;
	}
}

static void
drop_canceled(g2_scheduler *s, g2_group **at, g2_group ***last, bool admitted)
{
	while (*at)
	{
		g2_group   *group = *at;
		g2_error	err;

		if (!group->canceled)
		{
			at = &group->next;
			continue;
		}
		list_take(at, last);
		if (admitted)
			release(s, group);
		g2_fail(&err, G2_E_CANCELED, "the request was cancelled");
		group->o.done(group, &err);
	}
}

void
g2_scheduler_cancel(g2_scheduler *s, g2_group *group)
{
	(void) s;
	group->canceled = true;
}

void
g2_scheduler_run(g2_scheduler *s)
{
	take_result(s);
	drop_canceled(s, &s->queue, &s->queue_last, false);
	if (s->visit.in_flight)
		return;
	drop_canceled(s, &s->running, &s->running_last, true);
	/* Where all that run have failed, those that waited for their room are next: nothing would
	 * wake the engine for them otherwise. */
	do
		admit(s);
	while (!submit(s) && s->queue);
}

uint32_t
g2_scheduler_live(const g2_scheduler *s)
{
	return G2_SLOTS - s->n_free_slots;
}

void
g2_scheduler_close(g2_scheduler *s)
{
	if (!s)
		return;
	for (g2_group *group = s->queue; group; group = group->next)
		group->canceled = true;
	for (g2_group *group = s->running; group; group = group->next)
		group->canceled = true;
	while (s->visit.in_flight)
	{
		struct pollfd ended = {.fd = s->event_fd, .events = POLLIN};
		uint64_t	count;

		/* Events of earlier ends are taken too, so that this does not spin on them. */
		if (poll(&ended, 1, 100) > 0 && read(s->event_fd, &count, sizeof count) < 0)
			continue;
		take_result(s);
	}
	drop_canceled(s, &s->queue, &s->queue_last, false);
	drop_canceled(s, &s->running, &s->running_last, true);
	g2_free(s);
}
