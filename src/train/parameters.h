/*
 * parameters.h: weights that are trained, their gradients and the optimizer's state.
 *
 * A set is a list of tensors in one array; gradients and moments, where the set is trained, have the
 * same places.  The model's weights are one set; adapters of low rank are another, and
 * then the model's weights have neither gradients nor moments.
 */
#ifndef G2T_PARAMETERS_H
#define G2T_PARAMETERS_H

#include <stdatomic.h>

#include "context.h"
#include "util.h"
#include "weights.h"

typedef struct g2t_tensor
{
	char		name[64];		/* as Hugging Face has it, without "transformer." */
	uint32_t	rank;
	uint64_t	rows;			/* 1 for a vector */
	uint64_t	cols;
	size_t		at;				/* of its first element */
	bool		decays;			/* matrices and embeddings; gains and biases do not */
} g2t_tensor;

typedef struct g2t_parameters
{
	g2t_tensor *tensor;
	uint32_t	n;
	size_t		floats;			/* of each array, with what aligns the tensors */
	float	   *w;
	float	   *g;				/* NULL, as m and v: not trained */
	float	   *m;
	float	   *v;				/* NULL: trained with one moment */
} g2t_parameters;

/* How many of its arrays a set has. */
typedef enum g2t_arrays
{
	G2T_WEIGHTS = 1,
	G2T_ONE_MOMENT = 3,			/* and gradients */
	G2T_TWO_MOMENTS
} g2t_arrays;

/* What can be trained: a GPT-2 with gelu_new; 0A000 names what is different. */
extern bool g2t_arch_check(const g2_arch *arch, g2_error *err);

/* The tensors of a graph, all zero. */
extern bool g2t_parameters_open(const g2_arch *arch, g2t_arrays n_arrays, g2t_parameters *p,
								g2_error *err);

/* The adapters of a graph, for every matrix of a layer: "h.0.attn.c_attn.lora_a" [in][rank] and
 * ".lora_b" [rank][out]. */
extern bool g2t_adapters_open(const g2_arch *arch, uint32_t rank, g2t_arrays n_arrays,
							  g2t_parameters *p, g2_error *err);
extern void g2t_parameters_close(g2t_parameters *p);

/* Elements of all adapters of a graph. */
extern uint64_t g2t_adapters_size(const g2_arch *arch, uint32_t rank);

/* The place of the tensor of that name in the arrays; it is there. */
extern size_t g2t_parameters_at(const g2t_parameters *p, const char *name);

static inline size_t
g2t_tensor_size(const g2t_tensor *t)
{
	return t->rows * t->cols;
}

/* As GPT-2 starts: normal with deviation 0.02, the products that end in the residual stream by
 * 1 / sqrt(2 n_layer) less, gains 1, biases 0.  Adapters: lora_a normal with deviation
 * 1 / sqrt(in), lora_b 0.  Stops early where *cancel becomes true (NULL: nobody cancels). */
extern void g2t_parameters_start(g2t_parameters *p, uint32_t n_layer, uint64_t seed,
								 const atomic_bool *cancel);

/* The weights of a model's folder.  Its arch is the one that p was opened for. */
extern bool g2t_parameters_read(const char *folder, const g2_arch *arch, g2t_parameters *p,
								g2_error *err);

/* w += scale a b of every adapter, which is used up: its a is scaled. */
extern void g2t_adapters_merge(const g2t_context *context, g2t_parameters *adapters, float scale,
							   g2t_parameters *p);

#endif							/* G2T_PARAMETERS_H */
