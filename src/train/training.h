/*
 * training.h: a training that is under way.  Private to training*.c.
 */
#ifndef G2T_TRAINING_H
#define G2T_TRAINING_H

#include "checkpoint.h"
#include "network.h"
#include "optimizer.h"

typedef struct g2t_training
{
	g2t_job    *job;
	const g2_train *options;
	g2t_context context;
	g2t_parameters *p;
	g2t_parameters adapters;
	g2t_parameters *trained;	/* one of the two */
	g2t_network *net;
	g2t_optimizer optimizer;
	g2t_windows windows;
	g2t_windows held_out;
	g2t_step	batch;
	uint32_t   *start;			/* of a pass */
	uint32_t	pass_rows;
	uint32_t	steps;
	uint32_t	eval_every;
	uint32_t	point_every;
	g2t_state	state;
	g2t_outcome *outcome;
	int64_t		begun_us;		/* of this process */
	double		seconds_before;
	int64_t		saved_us;
	int64_t		saving_us;		/* that the last checkpoint took */
	int64_t		told_us;
	uint64_t	tokens_before;
} g2t_training;

/* Opens all of it, and reads the checkpoint where there is one.  job, p and outcome are set; to be
 * closed also after a failure. */
extern bool g2t_training_open(g2t_training *t, g2_error *err);
extern void g2t_training_close(g2t_training *t);

#endif							/* G2T_TRAINING_H */
