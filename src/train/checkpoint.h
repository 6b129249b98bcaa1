/*
 * checkpoint.h: where a training stands, on disk: everything that the next step depends on, so that
 * going on from it gives the same bits as never having stopped.
 */
#ifndef G2T_CHECKPOINT_H
#define G2T_CHECKPOINT_H

#include "job.h"
#include "parameters.h"

typedef struct g2t_state
{
	uint32_t	step;			/* steps done */
	uint32_t	best_step;		/* 0 = not evaluated yet */
	uint32_t	worse;			/* evaluations since the best */
	uint32_t	since_point;	/* steps since the curve's last point */
	uint64_t	cursor;			/* windows taken */
	uint64_t	tokens;
	double		best_loss;
	double		loss_sum;		/* of the steps since the curve's last point */
	double		last_loss;		/* of the last step */
	double		seconds;		/* of training */
} g2t_state;

/* Writes the checkpoint: state, curve, weights and moments. */
extern bool g2t_checkpoint_write(const g2t_place *place, const g2t_state *state,
								 const g2t_curve *curve, const g2t_parameters *p, g2_error *err);

/* Reads it into arrays of the same sizes; *found = false where there is none. */
extern bool g2t_checkpoint_read(const g2t_place *place, g2t_state *state, g2t_curve *curve,
								g2t_parameters *p, bool *found, g2_error *err);

/* Weights alone, of the step that did best on held-out rows. */
extern bool g2t_best_write(const g2t_place *place, uint32_t step, double loss,
						   const g2t_parameters *p, g2_error *err);
extern bool g2t_best_read(const g2t_place *place, uint32_t *step, double *loss,
						  g2t_parameters *p, bool *found, g2_error *err);

#endif							/* G2T_CHECKPOINT_H */
