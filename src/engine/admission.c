/*
 * admission.c: from the queue to the device and back.
 */
#include "admission.h"

/* A role that runs something may take the place of another's when that one has had so much more
 * service, and runs more.  Twice as much after each time that the other's group was preempted, so
 * that groups which do not fit together take turns that grow, until one is long enough to end. */
#define SERVICE_MARGIN_US 250000.0
#define MAX_PREEMPTIONS 16		/* of one run, for admission */
#define GROWTH 8				/* one block is kept free for so many running sequences */

/* ---- what can never run ---- */

static bool
fail_too_small(const g2_group *group, g2_error *err)
{
	const g2_kv *kv = group->o.kv;

	g2_fail(err, G2_E_MEMORY,
			"the KV cache is too small for %u sequences of %zu prompt and %u new tokens",
			group->o.n, group->prompt.len, group->o.max_new);
	g2_fail_detail(err, "They need %llu MB; the cache holds %llu MB.",
				   (unsigned long long) ((uint64_t) group->most_blocks * kv->block_bytes >> 20) + 1,
				   (unsigned long long) ((uint64_t) g2_kv_capacity(kv) * kv->block_bytes >> 20));
	return g2_fail_hint(err, "Raise gpt2.kv_cache_size, or ask for fewer or shorter sequences.");
}

bool
g2_scheduler_add(g2_scheduler *s, g2_group *group, g2_error *err)
{
	if (group->most_blocks > g2_kv_capacity(group->o.kv))
		return fail_too_small(group, err);
	if (!g2_queue_allows(&group->o, group->prompt.len, err))
		return false;
	group->queued_at = g2_now_us();
	g2_queue_push(&s->queue, group);
	return true;
}

/* ---- the list of running groups ---- */

static void
running_insert(g2_scheduler *s, g2_group *group)
{
	g2_group  **at = &s->running;

	while (*at && (*at)->order < group->order)
		at = &(*at)->next;
	group->next = *at;
	*at = group;
	group->state = G2_GROUP_RUNNING;
	group->o.session->role->n_running += group->o.n;
}

void
g2_running_remove(g2_scheduler *s, g2_group *group)
{
	g2_group  **at = &s->running;

	while (*at != group)
		at = &(*at)->next;
	*at = group->next;
	group->next = NULL;
	group->o.session->role->n_running -= group->o.n;
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_kv_release(group->o.kv, &group->sequences[i].table);
		s->free_slots[s->n_free_slots++] = group->sequences[i].slot;
	}
}

/* ---- admission ---- */

/* Slots are set up here: all tokens so far are the history of each sequence. */
static bool
set_slot(g2_scheduler *s, const g2_group *group, uint32_t i, g2_error *err)
{
	const g2_sequence *sequence = &group->sequences[i];
	size_t		n = group->prompt.len + sequence->ids.len;
	uint32_t   *history = NULL;
	g2_slot_state state = {
		.sampling = group->o.sampling,
		.next_index = (uint32_t) sequence->ids.len,
		.end_token = group->o.end_token,
		.history = group->prompt.data,
		.n_history = (uint32_t) n,
		.model = group->o.model,
	};
	bool		ok;

	if (sequence->ids.len > 0)
	{
		history = g2_alloc_array(n, sizeof *history);
		if (!history)
			return g2_fail_memory(err, n * sizeof *history);
		memcpy(history, group->prompt.data, group->prompt.len * sizeof *history);
		memcpy(history + group->prompt.len, sequence->ids.data,
			   sequence->ids.len * sizeof *history);
		state.history = history;
	}
	state.sampling.sequence = i;
	ok = s->api->slot_set(s->backend, sequence->slot, &state, err);
	g2_wipe_free(history, history ? n * sizeof *history : 0);
	return ok;
}

/* Blocks for the tokens so far, and `more` for each sequence. */
static uint32_t
blocks_for_all(const g2_group *group, uint32_t more)
{
	uint32_t	shared = (uint32_t) group->prompt.len / G2_BLOCK,
				n = shared;

	for (uint32_t i = 0; i < group->o.n; i++)
		if (!group->sequences[i].finish)
			n += g2_blocks_for(group->prompt.len + group->sequences[i].ids.len) - shared + more;
	return G2_MIN(n, group->most_blocks);
}

/* Of these, those that it does not hold yet: blocks are taken as rows are planned. */
static uint32_t
blocks_missing(const g2_group *group, uint32_t more)
{
	uint32_t	all = blocks_for_all(group, more),
				held = group->sequences[0].table.n;

	for (uint32_t i = 1; group->forked && i < group->o.n; i++)
		held += group->sequences[i].table.n;
	return all - G2_MIN(held, all);
}

static uint64_t
promise(const g2_group *group)
{
	return (uint64_t) blocks_missing(group, 0) * group->o.kv->block_bytes;
}

static void
count_promises(g2_scheduler *s)
{
	s->promised = 0;
	for (const g2_group *group = s->running; group; group = group->next)
		s->promised += promise(group);
}

static bool
has_room(const g2_scheduler *s, const g2_group *group)
{
	const g2_kv *kv = group->o.kv;
	/* What runs will grow: without some room for that it would be preempted at once. */
	uint32_t	growth = (G2_SLOTS - s->n_free_slots) / GROWTH;

	return (uint64_t) g2_kv_room(kv) * kv->block_bytes >=
		((uint64_t) blocks_missing(group, 1) + growth) * kv->block_bytes + s->promised;
}

typedef enum admission
{
	ADMITTED, NO_ROOM, GONE		/* it could not be set up, and has been told so */
} admission;

static void
give_up(g2_group *group, const g2_error *err)
{
	g2_kv_release(group->o.kv, &group->sequences[0].table);
	group->o.done(group, err);
}

static admission
try_admit(g2_scheduler *s, g2_group *group)
{
	g2_error	err;

	if (group->o.n > s->n_free_slots)
		return NO_ROOM;
	if (!g2_group_adopt(group, 0, &err))
	{
		g2_queue_take(&s->queue, group);
		give_up(group, &err);
		return GONE;
	}
	if (!has_room(s, group))
	{
		/* Blocks of the prefix cache are not held while it waits. */
		g2_kv_release(group->o.kv, &group->sequences[0].table);
		group->cached_tokens = group->preemptions == 0 ? 0 : group->cached_tokens;
		g2_group_rewind(group);
		return NO_ROOM;
	}
	g2_queue_take(&s->queue, group);
	if (group->order == 0)
	{
		group->order = ++s->n_orders;
		group->admitted_at = g2_now_us();
	}
	group->turn = s->n_turns;
	for (uint32_t i = 0; i < group->o.n; i++)
		group->sequences[i].slot = s->free_slots[--s->n_free_slots];
	running_insert(s, group);
	s->promised += promise(group);
	for (uint32_t i = 0; i < group->o.n; i++)
		if (!g2_group_scores(group) && !group->sequences[i].finish &&
			!set_slot(s, group, i, &err))
		{
			g2_running_remove(s, group);
			group->o.done(group, &err);
			return GONE;
		}
	return ADMITTED;
}

/* ---- preemption ---- */

static void
preempt(g2_scheduler *s, g2_group *group)
{
	g2_running_remove(s, group);
	group->preemptions++;
	group->o.work->preemptions++;
	g2_group_rewind(group);
	g2_queue_push_first(&s->queue, group);
}

/* Whether the group may be preempted for another role.  One that runs nothing needs no lead, but
 * for a role's only group that was preempted before. */
static bool
gives_way(const g2_group *group, const g2_role *role)
{
	const g2_role *other = group->o.session->role;
	bool		is_only = other->n_running == group->o.n;
	double		lead = 0;

	if (other == role || (role->n_running > 0 && other->n_running <= role->n_running))
		return false;
	if (role->n_running > 0 || (is_only && group->preemptions > 0))
		lead = SERVICE_MARGIN_US * (double) (UINT64_C(1) << G2_MIN(group->preemptions, 32));
	return other->service >= role->service + lead;
}

/* The newest group of the role with the most service among those that run.  With `role`, of those
 * that give way to it; without, the oldest group of all is spared. */
static g2_group *
choose_victim(const g2_scheduler *s, const g2_role *role)
{
	g2_group   *victim = NULL;

	/* In the order of age, so the last of equals is the newest. */
	for (g2_group *group = s->running; group; group = group->next)
	{
		if (group->canceled || (role ? !gives_way(group, role) : group == s->running))
			continue;
		if (!victim || group->o.session->role->service >= victim->o.session->role->service)
			victim = group;
	}
	return victim;
}

static bool
preempt_for(g2_scheduler *s, const g2_role *role)
{
	g2_group   *victim = choose_victim(s, role);

	if (!victim)
		return false;
	preempt(s, victim);
	return true;
}

bool
g2_preempt_for_blocks(g2_scheduler *s)
{
	return preempt_for(s, NULL);
}

void
g2_admit(g2_scheduler *s)
{
	int64_t		now = g2_now_us(),
				ready_at;
	uint32_t	preempted = 0;
	g2_group   *group;

	s->blocked = false;
	count_promises(s);
	while ((group = g2_queue_next(&s->queue, now, &ready_at)))
	{
		const g2_role *role = group->o.session->role;

		if (try_admit(s, group) != NO_ROOM)
			continue;
		if (preempted == MAX_PREEMPTIONS || !preempt_for(s, role))
		{
			s->blocked = true;
			break;
		}
		count_promises(s);
		preempted++;
	}
	s->wake_at = G2_MIN(s->queue.next_deadline, ready_at);
}
