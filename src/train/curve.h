/*
 * curve.h: the losses of a training as it goes on: part of its checkpoints, and at the end a file
 * of the model's folder, which gpt_training_log reads.
 */
#ifndef G2T_CURVE_H
#define G2T_CURVE_H

#include "util.h"

typedef struct g2t_point
{
	uint32_t	step;			/* steps done */
	uint32_t	evaluated;
	double		loss;			/* mean over the steps since the point before */
	double		held_out_loss;	/* where evaluated */
	double		rate;
	double		seconds;		/* of training */
	uint64_t	tokens;
} g2t_point;

typedef struct g2t_curve
{
	g2t_point  *point;
	uint32_t	n;
	uint32_t	cap;
} g2t_curve;

extern bool g2t_curve_add(g2t_curve *curve, const g2t_point *point, g2_error *err);

/* Writes G2_TRAIN_LOG_FILE into the folder. */
extern bool g2t_curve_write(const g2t_curve *curve, const char *folder, g2_error *err);

#endif							/* G2T_CURVE_H */
