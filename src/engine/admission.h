/*
 * admission.h: the scheduler's state, and how groups come to run and stop running.
 *
 * Private to scheduler.c and admission.c.  A group is in the queue or in the list `running`, which
 * is in the order of first admission: the oldest stands first, also after it was preempted.
 */
#ifndef G2_ADMISSION_H
#define G2_ADMISSION_H

#include "scheduler.h"

/* Sampler slots of one device, which has a KV pool of its own too. */
typedef struct g2_slots
{
	uint32_t	n;				/* 0: there is no such device */
	uint32_t	n_free;
	uint32_t   *free;			/* [n] */
	bool		full;			/* the group that is next there has found too few, or no blocks */
} g2_slots;

struct g2_scheduler
{
	const g2_backend_api *api;
	g2_backend *backend;
	int			event_fd;		/* the back end's */
	g2_people  *people;
	g2_queue	queue;
	g2_group   *running;
	g2_slots	slots[G2_MAX_DEVICES];
	uint32_t	step_tokens;	/* 0 = automatic */
	uint64_t	promised[G2_KV_POOLS];	/* bytes of blocks that running groups need and do not hold yet */
	bool		blocked;		/* a group that might run has found no room */
	bool		speculation;	/* drafts may be fed */
	bool		frugal;			/* the plan that is being made takes no block that it can do without */
	uint64_t	n_orders;		/* counts first admissions; group.order */
	uint64_t	n_turns;		/* counts plans; group.turn */
	int64_t		wake_at;
	g2_visit	visit;
};

/* Those of the model's device. */
extern g2_slots *g2_slots_of(g2_scheduler *s, const g2_backend_model *model);

/* Of the scheduler, for its queue: whether the group's device is full. */
extern bool g2_is_full(void *scheduler, const g2_group *group);

/* Admits from the queue while there is room, preempting where fairness asks for it. */
extern void g2_admit(g2_scheduler *s);

/* 53200: the group is larger than the cache.  It is asked again while it waits and runs: weights of
 * another model may have taken of a device's memory since. */
extern bool g2_group_fits(const g2_group *group, g2_error *err);

/* Preempts one group of a device because blocks have run out for `group`; false: no other runs there. */
extern bool g2_preempt_for_blocks(g2_scheduler *s, const g2_group *group);

/* Tells the slots of beams that have moved what their tokens are now. */
extern bool g2_follow_beams(g2_scheduler *s, g2_group *group, g2_error *err);

/* Takes the group off the list and gives back all that admission took. */
extern void g2_running_remove(g2_scheduler *s, g2_group *group);

#endif							/* G2_ADMISSION_H */
