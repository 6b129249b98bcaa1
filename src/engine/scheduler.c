/*
 * scheduler.c: admission, plans for the back end, results.
 *
 * Phases of a run: take the result of the visit in flight; give up cancelled groups; admit from
 * the queue; plan and submit the next visit.  One visit is in flight at a time, for one model;
 * models take turns.  Tables and arrays of the visit stay untouched until its result is taken.
 *
 * Lists: `queue` holds groups that wait, `running` those admitted.  A group is in exactly one.
 */
#include "scheduler.h"

#include <poll.h>

#define MAX_ROWS 512			/* rows of one step */
#define MIN_CHUNK 32			/* prompt rows of a step at least, when there are any */
#define PREFILL_TARGET_US 200000	/* a visit with prompt rows lasts about so long at most */
#define VISIT_TARGET_US 5000	/* a visit of several steps: cancel and arrivals wait no longer */
#define MAX_VISIT_STEPS 16

/* One of the plan's outputs: whose token it is. */
typedef struct target
{
	g2_group   *group;
	uint32_t	sequence;
} target;

typedef struct visit
{
	bool		in_flight;
	g2_plan		plan;
	g2_result	result;
	uint32_t	token[MAX_ROWS];
	uint32_t	position[MAX_ROWS];
	g2_plan_sequence sequences[MAX_ROWS];
	g2_output	outputs[G2_SLOTS];
	target		targets[G2_SLOTS];
	uint32_t	result_token[G2_SLOTS * MAX_VISIT_STEPS];
	double		result_logprob[G2_SLOTS * MAX_VISIT_STEPS];
	uint8_t		result_ended[G2_SLOTS * MAX_VISIT_STEPS];
} visit;

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
	double		us_per_row;		/* measured cost of a prompt row, 0 = unknown */
	double		us_per_step;	/* measured cost of a decode step, 0 = unknown */
	visit		visit;
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
		return g2_fail_hint(err, "Raise gpt2.kv_cache_size, or ask for fewer or shorter sequences.");
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

static void
release(g2_scheduler *s, g2_group *group)
{
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_kv_release(group->o.kv, &group->sequences[i].table);
		s->free_slots[s->n_free_slots++] = group->sequences[i].slot;
	}
	s->kv_reserved -= need_bytes(group);
}

static void
admit(g2_scheduler *s)
{
	while (s->queue)
	{
		g2_group   *group = s->queue;
		g2_error	err;

		if (group->o.n > s->n_free_slots ||
			s->kv_reserved + need_bytes(group) > capacity(s, group))
			return;
		list_take(&s->queue, &s->queue_last);
		s->kv_reserved += need_bytes(group);
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
prompt_room(const g2_scheduler *s, uint32_t n_decode)
{
	uint32_t	room = MAX_ROWS - n_decode,
				affordable;

	if (s->us_per_row <= 0)
		return G2_MIN(room, 128u);	/* not measured yet */
	affordable = (uint32_t) G2_MIN(PREFILL_TARGET_US / s->us_per_row, (double) MAX_ROWS);
	return G2_MIN(room, G2_MAX(affordable, (uint32_t) MIN_CHUNK));
}

static void
add_output(visit *v, g2_group *group, uint32_t sequence, uint32_t row)
{
	v->targets[v->plan.n_outputs] = (target) {group, sequence};
	v->outputs[v->plan.n_outputs++] = (g2_output) {
		.row = row,
		.slot = group->sequences[sequence].slot,
		.want = G2_WANT_TOKEN | (group->o.logprobs ? G2_WANT_LOGPROB : 0),
	};
}

/* The next chunk of the group's prompt; sequence 0 holds the blocks until the prompt is whole. */
static bool
plan_prefill(visit *v, g2_group *group, uint32_t room, g2_error *err)
{
	g2_sequence *first = &group->sequences[0];
	uint32_t	left = (uint32_t) group->prompt.len - group->prefilled,
				n = G2_MIN(left, room);

	if (!g2_kv_prepare(group->o.kv, &first->table, group->prefilled, group->prefilled + n - 1, err))
		return false;
	v->sequences[v->plan.n_sequences++] = (g2_plan_sequence) {
		.slot = G2_TOKEN_NONE,
		.first_row = v->plan.n_rows,
		.n_rows = n,
		.blocks = first->table.blocks,
	};
	for (uint32_t i = 0; i < n; i++)
	{
		v->token[v->plan.n_rows] = group->prompt.data[group->prefilled + i];
		v->position[v->plan.n_rows++] = group->prefilled + i;
	}
	group->prefilled += n;
	first->position = group->prefilled;
	if (n == left)
		for (uint32_t i = 0; i < group->o.n; i++)
			add_output(v, group, i, v->plan.n_rows - 1);
	return true;
}

/* One row for each sequence that decodes, `steps` positions ahead being writable. */
static bool
plan_decode(visit *v, g2_group *group, uint32_t steps, g2_error *err)
{
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_sequence *sequence = &group->sequences[i];

		if (sequence->finish)
			continue;
		if (!g2_kv_prepare(group->o.kv, &sequence->table, sequence->position,
						   sequence->position + steps - 1, err))
			return false;
		v->sequences[v->plan.n_sequences++] = (g2_plan_sequence) {
			.slot = sequence->slot,
			.first_row = v->plan.n_rows,
			.n_rows = 1,
			.blocks = sequence->table.blocks,
		};
		v->token[v->plan.n_rows] = sequence->ids.data[sequence->ids.len - 1];
		v->position[v->plan.n_rows] = sequence->position;
		add_output(v, group, i, v->plan.n_rows++);
	}
	return true;
}

static bool
prefilling(const g2_group *group)
{
	return group->prefilled < group->prompt.len;
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
		if (prefilling(group))
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
choose_steps(const g2_scheduler *s, const demand *d, bool others)
{
	uint32_t	steps;

	if (d->prefill || others || s->queue || s->us_per_step <= 0)
		return 1;
	steps = (uint32_t) G2_MIN(VISIT_TARGET_US / s->us_per_step, (double) MAX_VISIT_STEPS);
	return G2_MAX(1u, G2_MIN(steps, d->least_left));
}

static void
fail_group(g2_scheduler *s, g2_group **at, const g2_error *err)
{
	g2_group   *group = list_take(at, &s->running_last);

	release(s, group);
	group->o.done(group, err);
}

/* Fills the visit for one model.  A group whose memory cannot be had fails alone. */
static void
plan_model(g2_scheduler *s, g2_backend_model *model, bool others)
{
	visit	   *v = &s->visit;
	demand		d = measure(s, model);
	uint32_t	room = prompt_room(s, d.n_decode);
	g2_group  **next;
	g2_error	err;

	v->plan = (g2_plan) {
		.model = model,
		.n_steps = choose_steps(s, &d, others),
		.token = v->token,
		.position = v->position,
		.sequences = v->sequences,
		.outputs = v->outputs,
	};
	for (g2_group **at = &s->running; *at; at = next)
	{
		g2_group   *group = *at;
		uint32_t	before = v->plan.n_rows,
					sequences = v->plan.n_sequences,
					outputs = v->plan.n_outputs;
		bool		ok = true,
					prompt = prefilling(group);

		next = &group->next;
		if (group->o.model != model || (prompt && room == 0))
			continue;
		ok = prompt ? plan_prefill(v, group, room, &err) :
			plan_decode(v, group, v->plan.n_steps, &err);
		if (!ok)
		{
			v->plan.n_rows = before;
			v->plan.n_sequences = sequences;
			v->plan.n_outputs = outputs;
			next = at;
			fail_group(s, at, &err);
		}
		else if (prompt)
			room -= v->plan.n_rows - before;
	}
}

/* Models take turns: the one that follows the last visit's in the order of admission. */
static g2_backend_model *
next_model(const g2_scheduler *s, bool *others)
{
	g2_backend_model *last = s->visit.plan.model,
			   *chosen = NULL;
	bool		after = false;

	*others = false;
	for (const g2_group *group = s->running; group; group = group->next)
	{
		if (group->o.model != s->running->o.model)
			*others = true;
		if (group->o.model == last)
			after = true;
		else if (after && !chosen)
			chosen = group->o.model;
	}
	if (chosen || !s->running)
		return chosen;
	return s->running->o.model;
}

static void
submit(g2_scheduler *s)
{
	visit	   *v = &s->visit;
	g2_error	err;

	while (s->running)
	{
		bool		others;
		g2_backend_model *model = next_model(s, &others);

		plan_model(s, model, others);
		if (v->plan.n_rows == 0)
			continue;			/* its groups have failed: look at the rest */
		v->result = (g2_result) {
			.token = v->result_token,
			.logprob = v->result_logprob,
			.ended = v->result_ended,
		};
		if (s->api->step_submit(s->backend, &v->plan, &v->result, &err))
		{
			v->in_flight = true;
			return;
		}
		for (g2_group **at = &s->running; *at;)
			if ((*at)->o.model == model)
				fail_group(s, at, &err);
			else
				at = &(*at)->next;
	}
}

/* ---- results ---- */

/* The prompt is in the cache: the other sequences get their share of its blocks. */
static bool
fork_prompt(g2_group *group, g2_error *err)
{
	g2_sequence *first = &group->sequences[0];

	for (uint32_t i = 1; i < group->o.n; i++)
	{
		if (!g2_kv_share(group->o.kv, &group->sequences[i].table, &first->table, first->table.n,
						 err))
			return false;
		group->sequences[i].position = first->position;
	}
	return true;
}

static bool
take_output(const visit *v, uint32_t step, uint32_t output, g2_error *err)
{
	const target *t = &v->targets[output];
	g2_sequence *sequence = &t->group->sequences[t->sequence];
	size_t		at = (size_t) step * v->plan.n_outputs + output;

	if (sequence->finish || v->result.token[at] == G2_TOKEN_NONE)
		return true;			/* ended in an earlier step of this visit: overshoot */
	if (sequence->ids.len > 0)
		sequence->position++;	/* the token before this one is in the cache now */
	if (!g2_group_accept(t->group, t->sequence, v->result.token[at],
						 t->group->o.logprobs ? v->result.logprob[at] : 0.0,
						 v->result.ended[at] != 0, err))
		return false;
	if (sequence->finish)
		g2_kv_release(t->group->o.kv, &sequence->table);
	return true;
}

static void
learn_costs(g2_scheduler *s)
{
	const visit *v = &s->visit;
	double		us = (double) v->result.busy_us;
	uint32_t	n_prompt = v->plan.n_rows - G2_MIN(v->plan.n_rows, v->plan.n_outputs);

	if (n_prompt >= 16)
		s->us_per_row = s->us_per_row > 0 ? 0.7 * s->us_per_row + 0.3 * us / v->plan.n_rows :
			us / v->plan.n_rows;
	else if (n_prompt == 0)
		s->us_per_step = us / v->plan.n_steps;
}

static void
take_result(g2_scheduler *s)
{
	visit	   *v = &s->visit;
	bool		failed = false;
	g2_error	err;

	if (!v->in_flight || !s->api->step_result(s->backend, &failed, &err))
		return;
	v->in_flight = false;
	learn_costs(s);
	for (uint32_t o = 0; o < v->plan.n_outputs && !failed; o++)
		if (v->targets[o].sequence == 0 && v->targets[o].group->sequences[0].ids.len == 0)
			failed = !fork_prompt(v->targets[o].group, &err);
	for (uint32_t step = 0; step < v->plan.n_steps && !failed; step++)
		for (uint32_t o = 0; o < v->plan.n_outputs && !failed; o++)
			failed = !take_output(v, step, o, &err);
	for (g2_group **at = &s->running; *at;)
	{
		g2_group   *group = *at;

		if (failed && group->o.model == v->plan.model)
			fail_group(s, at, &err);
		else if (group->n_live == 0)
			fail_group(s, at, NULL);
		else
			at = &group->next;
	}
}

static void
drop_canceled(g2_scheduler *s, g2_group **at, g2_group ***last, bool admitted)
{
	g2_error	err;

	g2_fail(&err, G2_E_CANCELED, "the request was cancelled");
	while (*at)
	{
		if ((*at)->canceled)
		{
			g2_group   *group = list_take(at, last);

			if (admitted)
				release(s, group);
			group->o.done(group, &err);
		}
		else
			at = &(*at)->next;
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
	admit(s);
	submit(s);
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

		poll(&ended, 1, 100);
		take_result(s);
	}
	drop_canceled(s, &s->queue, &s->queue_last, false);
	drop_canceled(s, &s->running, &s->running_last, true);
	g2_free(s);
}
