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

bool
g2_group_fits(const g2_group *group, g2_error *err)
{
	const g2_kv *kv = group->o.kv;

	if (group->most_blocks <= g2_kv_capacity(kv))
		return true;
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
	/* It would be planned again and again, and never end. */
	if (g2_group_rows(group, 0) == 0)
		return g2_fail(err, G2_E_INTERNAL, "a sequence group has nothing to compute");
	if (!g2_group_fits(group, err) || !g2_queue_allows(&group->o, group->prompt.len, err))
		return false;
	group->queued_at = g2_now_us();
	g2_queue_push(&s->queue, group);
	return true;
}

/* ---- the list of running groups, and slots ---- */

g2_slots *
g2_slots_of(g2_scheduler *s, const g2_backend_model *model)
{
	return &s->slots[s->api->device_number ? s->api->device_number(model) : 0];
}

bool
g2_is_full(void *scheduler, const g2_group *group)
{
	return g2_slots_of(scheduler, group->o.model)->full;
}

static void
running_insert(g2_scheduler *s, g2_group *group)
{
	g2_group  **at = &s->running;

	while (*at && (*at)->order < group->order)
		at = &(*at)->next;
	group->next = *at;
	*at = group;
	group->state = G2_GROUP_RUNNING;
	g2_group_reserve(group, true);
	group->o.session->role->n_running += group->o.n;
	group->o.session->role->n_texts += g2_group_texts(&group->o);
}

void
g2_running_remove(g2_scheduler *s, g2_group *group)
{
	g2_slots   *slots = g2_slots_of(s, group->o.model);
	g2_group  **at = &s->running;

	while (*at != group)
		at = &(*at)->next;
	*at = group->next;
	group->next = NULL;
	g2_group_reserve(group, false);
	group->o.session->role->n_running -= group->o.n;
	group->o.session->role->n_texts -= g2_group_texts(&group->o);
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		g2_kv_release(group->o.kv, &group->sequences[i].table);
		g2_ngrams_close(&group->sequences[i].ngrams);
		slots->free[slots->n_free++] = group->sequences[i].slot;
	}
}

/* ---- admission ---- */

/* All tokens so far are the history of each sequence. */
static bool
set_slot(g2_scheduler *s, const g2_group *group, uint32_t i, g2_error *err)
{
	const g2_sequence *sequence = &group->sequences[i];
	size_t		n = group->prompt.len + sequence->ids.len;
	uint32_t   *history = NULL;
	g2_slot_state state = {
		.sampling = group->o.sampling,
		.next_index = (uint32_t) sequence->ids.len,
		.most_new = group->o.max_new,
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

/* What the group needs while it runs, beside slots and blocks. */
static bool
set_up(g2_scheduler *s, g2_group *group, g2_error *err)
{
	for (uint32_t i = 0; i < group->o.n; i++)
		if (!g2_group_scores(group) && !group->sequences[i].finish &&
			!set_slot(s, group, i, err))
			return false;
	return g2_group_index(group, err);
}

bool
g2_follow_beams(g2_scheduler *s, g2_group *group, g2_error *err)
{
	if (!group->beams || !group->beams->moved)
		return true;
	group->beams->moved = false;
	for (uint32_t i = 0; i < group->n_live; i++)
		if (!set_slot(s, group, i, err))
			return false;
	return true;
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

/* Blocks that it need not take any more.  The last block of the prompt counts once while sequences
 * share it: all but one of them copy it before they write into it. */
static uint32_t
blocks_held(const g2_group *group)
{
	uint32_t	shared = (uint32_t) group->prompt.len / G2_BLOCK,
				n = shared,
				sharers = 0;

	if (!group->forked || group->o.n == 1)
		return group->sequences[0].table.n;
	for (uint32_t i = 0; i < group->o.n; i++)
	{
		const g2_sequence *sequence = &group->sequences[i];

		if (sequence->table.n <= shared)
			continue;
		n += sequence->table.n - shared;
		/* A block that is full may be another group's too, and is not copied. */
		sharers += sequence->position / G2_BLOCK == shared &&
			group->o.kv->blocks[sequence->table.blocks[shared]].references > 1;
	}
	return sharers > 0 ? n - (sharers - 1) : n;
}

/* Of those for all, those that it does not hold yet: blocks are taken as rows are planned. */
static uint32_t
blocks_missing(const g2_group *group, uint32_t more)
{
	uint32_t	all = blocks_for_all(group, more);

	return all - G2_MIN(blocks_held(group), all);
}

static uint64_t
promise(const g2_group *group)
{
	return (uint64_t) blocks_missing(group, 0) * group->o.kv->block_bytes;
}

static void
count_promises(g2_scheduler *s)
{
	memset(s->promised, 0, sizeof s->promised);
	for (const g2_group *group = s->running; group; group = group->next)
		s->promised[group->o.kv->pool->index] += promise(group);
}

static bool
has_room(const g2_scheduler *s, const g2_slots *slots, const g2_group *group)
{
	const g2_kv *kv = group->o.kv;
	/* What runs will grow: without some room for that it would be preempted at once. */
	uint32_t	growth = (slots->n - slots->n_free) / GROWTH;

	return (uint64_t) g2_kv_room(kv) * kv->block_bytes >=
		((uint64_t) blocks_missing(group, 1) + growth) * kv->block_bytes +
		s->promised[kv->pool->index];
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
	g2_slots   *slots = g2_slots_of(s, group->o.model);
	g2_error	err;

	if (group->o.n > slots->n_free)
		return NO_ROOM;
	if (!g2_group_fits(group, &err) || !g2_group_adopt(group, 0, &err))
	{
		g2_queue_take(&s->queue, group);
		give_up(group, &err);
		return GONE;
	}
	if (!has_room(s, slots, group))
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
		group->sequences[i].slot = slots->free[--slots->n_free];
	running_insert(s, group);
	s->promised[group->o.kv->pool->index] += promise(group);
	if (set_up(s, group, &err))
		return ADMITTED;
	g2_running_remove(s, group);
	group->o.done(group, &err);
	return GONE;
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

	if (group->o.session->parked)
		return true;
	if (other == role || (role->n_running > 0 && other->n_running <= role->n_running))
		return false;
	if (role->n_running > 0 || (is_only && group->preemptions > 0))
		lead = SERVICE_MARGIN_US * (double) (UINT64_C(1) << G2_MIN(group->preemptions, 32));
	return other->service >= role->service + lead;
}

/* Of a device, the oldest group that somebody waits for; where there is none, of all. */
static const g2_group *
oldest_wanted(g2_scheduler *s, const g2_slots *device)
{
	const g2_group *oldest = NULL;

	for (const g2_group *group = s->running; group; group = group->next)
	{
		if (g2_slots_of(s, group->o.model) != device)
			continue;
		if (!group->o.session->parked)
			return group;
		oldest = oldest ? oldest : group;
	}
	return oldest;
}

/* Parked ones before others, of these the role with more service; the newer of equals. */
static bool
is_better_victim(const g2_group *newer, const g2_group *older)
{
	const g2_session *session = newer->o.session,
			   *other = older->o.session;

	if (session->parked != other->parked)
		return session->parked;
	return session->role->service >= other->role->service;
}

/* Of the groups that run on a device: with `role`, of those that give way to it; without, the oldest
 * that somebody waits for is spared. */
static g2_group *
choose_victim(g2_scheduler *s, const g2_slots *device, const g2_role *role)
{
	const g2_group *spared = role ? NULL : oldest_wanted(s, device);
	g2_group   *victim = NULL;

	/* In the order of age, so the last of equals is the newest. */
	for (g2_group *group = s->running; group; group = group->next)
	{
		if (group->canceled || group == spared || (role && !gives_way(group, role)) ||
			g2_slots_of(s, group->o.model) != device)
			continue;
		if (!victim || is_better_victim(group, victim))
			victim = group;
	}
	return victim;
}

static bool
preempt_for(g2_scheduler *s, const g2_slots *device, const g2_role *role)
{
	g2_group   *victim = choose_victim(s, device, role);

	if (!victim)
		return false;
	preempt(s, victim);
	return true;
}

bool
g2_preempt_for_blocks(g2_scheduler *s, const g2_group *group)
{
	return preempt_for(s, g2_slots_of(s, group->o.model), NULL);
}

/* The newest parked group whose role has nothing left, of what its limits permit, for what is waited
 * for. */
static g2_group *
in_the_way(const g2_scheduler *s, int64_t now)
{
	g2_group   *newest = NULL;

	for (g2_group *group = s->running; group; group = group->next)
		if (group->o.session->parked && !group->canceled &&
			g2_queue_lacks_own(group->o.session->role, now))
			newest = group;
	return newest;
}

void
g2_admit(g2_scheduler *s)
{
	int64_t		now = g2_now_us(),
				ready_at;
	uint32_t	preempted = 0;
	g2_group   *group;

	s->blocked = false;
	for (uint32_t d = 0; d < G2_MAX_DEVICES; d++)
		s->slots[d].full = false;
	while (preempted < MAX_PREEMPTIONS && (group = in_the_way(s, now)))
	{
		preempt(s, group);
		preempted++;
	}
	count_promises(s);
	while ((group = g2_queue_next(&s->queue, now, &ready_at)))
	{
		g2_slots   *device = g2_slots_of(s, group->o.model);
		admission	outcome = try_admit(s, group);

		if (outcome == ADMITTED || outcome == GONE)
			continue;
		if (preempted < MAX_PREEMPTIONS && !group->o.session->parked &&
			preempt_for(s, device, group->o.session->role))
		{
			count_promises(s);
			preempted++;
			continue;
		}
		s->blocked = true;
		device->full = true;
	}
	s->wake_at = G2_MIN(s->queue.next_deadline, ready_at);
}
