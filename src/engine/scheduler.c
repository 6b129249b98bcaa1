/*
 * scheduler.c: whose turn it is, how much a visit holds, and how groups end.
 *
 * Phases of a run: take the result of the visit in flight; give up groups that were cancelled or
 * have waited for too long; admit from the queue (admission.c); plan and submit the next visit.
 * One visit is in flight at a time, for one model; models take turns.  Nothing waits without a
 * visit in flight or a time to wake up at: its end is what wakes the engine.
 */
#include "admission.h"
#include "constraint.h"

#include <poll.h>
#include <unistd.h>

#define MIN_CHUNK 16			/* prompt rows of a step at least, when there are any */
#define UNMEASURED_CHUNK 128	/* prompt rows while nothing is known about their cost ... */
#define UNMEASURED_BESIDE 32	/* ... and when others decode */
#define PREFILL_TARGET_US 200000	/* a visit with prompt rows only lasts about so long at most */
#define PREFILL_STEPS 2			/* prompt rows beside others: as long as so many of their steps */
#define DRAFT_MARGIN 3			/* a draft must promise so many times what its row costs: few rows
								 * cost more than the line through all says */
#define VISIT_TARGET_US 5000	/* a visit of several steps: cancel and arrivals wait no longer */

static bool
open_slots(g2_scheduler *s, g2_error *err)
{
	uint32_t	most = 0;

	for (uint32_t d = 0; d < G2_MAX_DEVICES; d++)
	{
		g2_slots   *slots = &s->slots[d];

		slots->n = s->api->slots(s->backend, d);
		if (slots->n == 0)
			continue;
		if (slots->n < G2_MAX_SEQUENCES)
			return g2_fail(err, G2_E_INTERNAL, "device %u has %u slots, and a group may need %d", d,
						   slots->n, G2_MAX_SEQUENCES);
		slots->free = g2_alloc_array(slots->n, sizeof *slots->free);
		if (!slots->free)
			return g2_fail_memory(err, slots->n * sizeof *slots->free);
		for (uint32_t i = slots->n; i > 0; i--)
			slots->free[slots->n_free++] = i - 1;
		most = G2_MAX(most, slots->n);
	}
	return g2_visit_open(&s->visit, most, err);
}

static void
free_scheduler(g2_scheduler *s)
{
	for (uint32_t d = 0; d < G2_MAX_DEVICES; d++)
		g2_free(s->slots[d].free);
	g2_visit_close(&s->visit);
	g2_free(s);
}

bool
g2_scheduler_open(const g2_backend_api *api, g2_backend *backend, int event_fd,
				  g2_people *people, g2_scheduler **out, g2_error *err)
{
	g2_scheduler *s = g2_alloc(sizeof *s);

	if (!s)
		return g2_fail_memory(err, sizeof *s);
	s->api = api;
	s->backend = backend;
	s->event_fd = event_fd;
	s->people = people;
	s->speculation = true;
	s->wake_at = INT64_MAX;
	g2_queue_init(&s->queue, people, g2_is_full, s);
	if (!open_slots(s, err))
	{
		free_scheduler(s);
		return false;
	}
	*out = s;
	return true;
}

void
g2_scheduler_set_step_tokens(g2_scheduler *s, uint32_t step_tokens)
{
	s->step_tokens = step_tokens;
}

void
g2_scheduler_set_speculation(g2_scheduler *s, bool on)
{
	s->speculation = on;
}

/* ---- what there is to do ---- */

/* What the running groups of one model want. */
typedef struct demand
{
	uint32_t	rows;			/* of a step at most, of those that decode and others */
	uint32_t	n_decode;		/* sequences that decode */
	bool		prefill;
	uint32_t	least_left;		/* tokens that the sequence nearest to its end may still make */
	bool		single;			/* one of them takes one step at a time */
	bool		others;			/* groups of other models run too */
	uint32_t	others_decode;	/* their sequences that decode */
	double		others_us;		/* a step of those, of the slowest model */
} demand;

static void
measure_other(demand *d, const g2_group *group)
{
	d->others = true;
	if (g2_group_prefilling(group))
		return;
	d->others_decode += group->n_live;
	d->others_us = G2_MAX(d->others_us, g2_cost_step(&group->o.work->cost, d->others_decode));
}

static demand
measure(g2_scheduler *s, const g2_backend_model *model)
{
	demand		d = {
		.rows = g2_visit_rows(g2_slots_of(s, model)->n), .least_left = UINT32_MAX,
	};

	for (const g2_group *group = s->running; group; group = group->next)
	{
		if (group->o.model != model)
		{
			measure_other(&d, group);
			continue;
		}
		d.prefill |= g2_group_prefilling(group);
		d.single |= g2_group_single_steps(group);
		for (uint32_t i = 0; i < group->o.n; i++)
		{
			const g2_sequence *sequence = &group->sequences[i];

			if (sequence->finish || !g2_group_decodes(group, i))
				continue;
			d.n_decode++;
			d.least_left = G2_MIN(d.least_left,
								  group->o.max_new - (uint32_t) sequence->ids.len);
		}
	}
	return d;
}

/* Prompt rows of a step, so that those that decode, of this model or another, do not wait long. */
static uint32_t
prompt_room(const g2_scheduler *s, const g2_work *work, const demand *d)
{
	uint32_t	n_decode = d->n_decode,
				room = d->rows - n_decode;
	bool		beside = n_decode > 0 || d->others_decode;
	double		target = PREFILL_TARGET_US,
				us = G2_MAX(n_decode > 0 ? g2_cost_step(&work->cost, n_decode) : 0, d->others_us);

	if (s->step_tokens > 0)
		return G2_MIN(room, n_decode + MIN_CHUNK < s->step_tokens ? s->step_tokens - n_decode :
					  MIN_CHUNK);
	if (work->cost.per_row <= 0)
		return G2_MIN(room, beside ? UNMEASURED_BESIDE : UNMEASURED_CHUNK);
	if (beside)
		target = G2_MIN(target, PREFILL_STEPS * us);
	target = G2_MIN(target / work->cost.per_row, (double) room);
	return G2_MAX((uint32_t) target, (uint32_t) MIN_CHUNK);
}

/* Several steps only where nobody has to wait for their end. */
static uint32_t
choose_steps(const g2_scheduler *s, const demand *d, const g2_work *work)
{
	double		us = g2_cost_step(&work->cost, d->n_decode);
	uint32_t	steps;

	if (d->prefill || d->single || d->others || s->blocked || !work->decoded)
		return 1;
	steps = (uint32_t) G2_MIN(VISIT_TARGET_US / us, (double) G2_VISIT_STEPS);
	return G2_MAX(1u, G2_MIN(steps, d->least_left));
}

/* ---- planning ---- */

/* The group has its answer or, with err, has failed. */
static void
end_group(g2_scheduler *s, g2_group *group, const g2_error *err)
{
	g2_running_remove(s, group);
	group->o.done(group, err);
}

/* Adds a group to the plan.  False: the plan is to be made again, since a group has gone. */
static bool
add_group(g2_scheduler *s, g2_group *group, uint32_t max_prompt, uint32_t *prompt_rows)
{
	g2_error	err;

	group->turn = s->n_turns;
	switch (g2_visit_add(&s->visit, group, max_prompt, prompt_rows, &err))
	{
		case G2_KV_DONE:
			return true;
		case G2_KV_FULL:
			if (!s->frugal)
				s->frugal = true;	/* one step, no drafts */
			else if (!g2_preempt_for_blocks(s, group))
			{
				if (g2_group_fits(group, &err))
					g2_fail(&err, G2_E_INTERNAL, "no KV block is free though only one group runs");
				end_group(s, group, &err);
			}
			return false;
		default:
			end_group(s, group, &err);
			return false;
	}
}

/* The group that prefills next: of the role with the least service, the oldest. */
static g2_group *
next_prefill(const g2_scheduler *s, const g2_backend_model *model)
{
	g2_group   *best = NULL;

	for (g2_group *group = s->running; group; group = group->next)
		if (group->o.model == model && group->turn != s->n_turns && g2_group_prefilling(group) &&
			(!best || group->o.session->role->service < best->o.session->role->service))
			best = group;
	return best;
}

/* What is banned, or a beam's next step, follows from the token before. */
static bool
takes_drafts(const g2_group *group)
{
	return !group->beams && group->o.no_repeat_ngram == 0;
}

/*
 * Sets the drafts of the model's sequences that decode; false: there are none.  A row more costs
 * per_row, so a token of a draft is worth it where it is kept more often than that part of what
 * tokens cost now.  Drafts take what room is left: none beside a prompt or another model.
 */
static bool
plan_drafts(const g2_scheduler *s, const g2_backend_model *model, const g2_work *work,
			const demand *d)
{
	double		usual = g2_cost_step(&work->cost, d->n_decode),
				worth = usual > 0 ? DRAFT_MARGIN * work->cost.per_row * d->n_decode / usual : 1;
	uint32_t	room = d->rows - d->n_decode;
	bool		any = false,
				allowed = s->speculation && !s->frugal && !d->prefill && !d->others;

	for (g2_group *group = s->running; group; group = group->next)
		for (uint32_t i = 0; group->o.model == model && i < group->o.n; i++)
		{
			g2_sequence *sequence = &group->sequences[i];
			uint32_t	left;

			sequence->draft.n = sequence->draft.n_found = 0;
			if (!allowed || !takes_drafts(group) || sequence->finish ||
				!g2_group_decodes(group, i))
				continue;
			left = group->o.max_new - (uint32_t) sequence->ids.len;
			g2_draft_find(group, i);
			g2_constraint_cut_draft(group, i);
			sequence->draft.n = g2_draft_length(&sequence->draft, worth,
												G2_MIN(left - 1, room));
			room -= sequence->draft.n;
			any |= sequence->draft.n > 0;
		}
	return any;
}

/* Fills the visit for one model.  False: groups have gone, so choose again. */
static bool
plan_model(g2_scheduler *s, const g2_group *chosen)
{
	g2_backend_model *model = chosen->o.model;
	g2_work    *work = chosen->o.work;
	demand		d = measure(s, model);
	uint32_t	room = prompt_room(s, work, &d),
				rows;
	bool		one_step = plan_drafts(s, model, work, &d) || s->frugal;

	s->n_turns++;
	g2_visit_begin(&s->visit, work, model, one_step ? 1 : choose_steps(s, &d, work));
	for (g2_group *group = s->running; group; group = group->next)
		if (group->o.model == model && !g2_group_prefilling(group) &&
			!add_group(s, group, 0, &rows))
			return false;
	for (g2_group *group; room > 0 && (group = next_prefill(s, model)); room -= rows)
		if (!add_group(s, group, room, &rows))
			return false;
	/* Groups that found no room have had their turn too, or another model would wait for them. */
	for (g2_group *group = s->running; group; group = group->next)
		if (group->o.model == model)
			group->turn = s->n_turns;
	return true;
}

/* A group of the model whose last turn is the longest ago. */
static const g2_group *
next_model(const g2_scheduler *s)
{
	const g2_group *chosen = s->running;

	for (const g2_group *group = s->running; group; group = group->next)
		if (group->turn < chosen->turn)
			chosen = group;
	return chosen;
}

/* Ends those that took part in the visit. */
static void
fail_visit(g2_scheduler *s, const g2_error *err)
{
	for (g2_group *group = s->running, *next; group; group = next)
	{
		next = group->next;
		if (group->visit == s->visit.number)
			end_group(s, group, err);
	}
}

/* True: a visit is in flight.  False: nothing runs. */
static bool
submit(g2_scheduler *s)
{
	g2_visit   *v = &s->visit;
	g2_error	err;

	s->frugal = false;
	while (s->running)
	{
		if (!plan_model(s, next_model(s)))
			continue;
		v->in_flight = s->api->step_submit(s->backend, &v->plan, &v->result, &err);
		if (v->in_flight)
			return true;
		fail_visit(s, &err);
	}
	return false;
}

/* ---- results ---- */

static void
learn_cost(const g2_visit *v)
{
	g2_cost_learn(&v->work->cost, v->plan.n_rows,
				  (double) v->result.busy_us / v->plan.n_steps);
	v->work->decoded |= v->plan.n_rows == v->plan.n_outputs;
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
	learn_cost(v);
	g2_visit_take(v);
	g2_people_advance(s->people);
	for (g2_group *group = s->running, *next; group; group = next)
	{
		next = group->next;
		g2_fail_memory(&err, sizeof(g2_group));
		if (group->failed || !g2_follow_beams(s, group, &err))
			end_group(s, group, &err);
		else if (group->n_live == 0)
			end_group(s, group, NULL);
	}
}

static void
drop_canceled(g2_scheduler *s)
{
	g2_error	err;

	g2_fail(&err, G2_E_CANCELED, "the request was cancelled");
	for (g2_group *group = s->running, *next; group; group = next)
	{
		next = group->next;
		if (group->canceled)
			end_group(s, group, &err);
	}
}

static void
drop_queued(g2_scheduler *s)
{
	g2_group   *group;
	g2_error	why;

	while ((group = g2_queue_take_ended(&s->queue, g2_now_us(), &why)))
		group->o.done(group, &why);
}

void
g2_scheduler_cancel(g2_scheduler *s, g2_group *group)
{
	if (group->state == G2_GROUP_QUEUED && !group->canceled)
		g2_queue_cancel(&s->queue, group);
	group->canceled = true;
}

void
g2_scheduler_run(g2_scheduler *s)
{
	take_result(s);
	drop_queued(s);
	s->wake_at = s->queue.next_deadline;
	if (s->visit.in_flight)
		return;
	drop_canceled(s);
	/* Where all that run have failed, those that waited for their room or their role's limit, or gave
	 * way to them, are next: nothing would wake the engine for them otherwise. */
	do
		g2_admit(s);
	while (s->running && !submit(s));
}

int64_t
g2_scheduler_wake_at(const g2_scheduler *s)
{
	return s->wake_at;
}

uint32_t
g2_scheduler_live(const g2_scheduler *s)
{
	uint32_t	n = 0;

	for (uint32_t d = 0; d < G2_MAX_DEVICES; d++)
		n += s->slots[d].n - s->slots[d].n_free;
	return n;
}

uint32_t
g2_scheduler_queued(const g2_scheduler *s)
{
	return s->queue.n;
}

void
g2_scheduler_close(g2_scheduler *s)
{
	if (!s)
		return;
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
	drop_canceled(s);
	g2_queue_cancel_all(&s->queue);
	drop_queued(s);
	free_scheduler(s);
}
