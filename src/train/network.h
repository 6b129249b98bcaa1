/*
 * network.h: a GPT-2 with a way back: a batch's loss and its gradient.
 *
 * Memory: for each row of a pass, and each layer whose activations are kept, 12 n_embd floats (with
 * n_ff = 4 n_embd), and 15 n_embd of work.  With `recompute` only one layer's are kept beside
 * every layer's input; the others are computed again on the way back, which gives the same bits in
 * a third more time.
 */
#ifndef G2T_NETWORK_H
#define G2T_NETWORK_H

#include "operations.h"
#include "parameters.h"

typedef struct g2t_network_options
{
	uint32_t	rows;			/* of a pass, at most */
	float		dropout;
	uint64_t	seed;			/* of the dropout */
	float		adapter_scale;	/* alpha / rank */
	bool		recompute;
} g2t_network_options;

typedef struct g2t_network g2t_network;

/* Points into the sets, which stay.  adapters->n = 0: none.  Whichever set has gradients is
 * trained. */
extern bool g2t_network_open(const g2_arch *arch, const g2t_context *context,
							 const g2t_parameters *p, const g2t_parameters *adapters,
							 const g2t_network_options *options, g2t_network **out,
							 g2_error *err);
extern void g2t_network_close(g2t_network *network);

/* Bytes of activations that a network will hold. */
extern uint64_t g2t_network_bytes(const g2_arch *arch, uint32_t rows, bool recompute);

/* The sum of the losses of the batch's targets; nothing is dropped. */
extern double g2t_network_loss(g2t_network *network, const g2t_batch *batch);

/* The same with dropout, whose numbers depend on `step`.  The gradients of a step's first pass
 * (batch->first = 0) are set to gradient_scale times its gradient, those of the others added. */
extern double g2t_network_backward(g2t_network *network, const g2t_batch *batch, uint32_t step,
								   float gradient_scale);

#endif							/* G2T_NETWORK_H */
