/*
 * weights.h: what a model is to the forward pass: its graph (one struct for every architecture)
 * and its weights, as pointers into a mapped pack.  Owned by the pack; read-only; any thread.
 *
 * Matrices are stored in panels of 48 output columns: panel p holds [K][48] values of columns
 * 48p .. 48p+47, k ascending, so that a product reads each panel as one sequential stream.  N is
 * padded to a multiple of 48 with zeros.  One layout serves every instruction set.
 */
#ifndef G2_WEIGHTS_H
#define G2_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define G2_PANEL 48

typedef enum g2_format
{
	G2_FORMAT_F32 = 0			/* weights f32, KV f32: the reference */
} g2_format;

typedef enum g2_norm_kind
{
	G2_NORM_LAYER,				/* (x - mean) / sqrt(var + eps) * gain + bias */
	G2_NORM_RMS
} g2_norm_kind;

typedef enum g2_position_kind
{
	G2_POSITION_LEARNED,
	G2_POSITION_ROPE_HALF,		/* pairs (i, i + head_dim/2) */
	G2_POSITION_ROPE_INTERLEAVED	/* pairs (2i, 2i + 1) */
} g2_position_kind;

typedef enum g2_activation
{
	G2_ACT_GELU_NEW,			/* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
	G2_ACT_GELU,				/* 0.5 x (1 + erf(x / sqrt 2)) */
	G2_ACT_RELU,
	G2_ACT_SILU
} g2_activation;

/* The graph.  head_dim is a field of its own, never n_embd / n_head. */
typedef struct g2_arch
{
	uint32_t	n_layer;
	uint32_t	n_embd;
	uint32_t	n_head;
	uint32_t	n_kv_head;
	uint32_t	head_dim;
	uint32_t	n_ff;
	uint32_t	n_ctx;			/* positions */
	uint32_t	n_vocab;		/* rows of the embedding */
	uint32_t	norm;			/* g2_norm_kind */
	uint32_t	norm_bias;		/* 0 or 1, as all flags here: the struct goes into packs as it is */
	float		norm_epsilon;
	uint32_t	position;		/* g2_position_kind */
	float		rope_base;
	float		rope_scaling;
	uint32_t	activation;		/* g2_activation */
	uint32_t	gated_mlp;
	uint32_t	fused_qkv;
	uint32_t	attn_bias;
	uint32_t	mlp_bias;
	float		attn_scale;		/* scores = q . k * attn_scale */
	uint32_t	attn_window;	/* 0 = whole context */
	uint32_t	tied_head;
} g2_arch;

/* K inputs -> n outputs; data = [n_padded / 48][k][48] in the model's format. */
typedef struct g2_matrix
{
	const void *data;
	uint32_t	k;
	uint32_t	n;
	uint32_t	n_padded;
} g2_matrix;

typedef struct g2_layer
{
	const float *norm1_gain;	/* [n_embd] */
	const float *norm1_bias;	/* [n_embd] or NULL */
	g2_matrix	qkv;			/* n_embd -> (n_head + 2 n_kv_head) head_dim: q, then k, then v */
	const float *qkv_bias;		/* [n_padded], zeros behind n; NULL without bias */
	g2_matrix	attn_out;		/* n_head head_dim -> n_embd */
	const float *attn_out_bias;
	const float *norm2_gain;
	const float *norm2_bias;
	g2_matrix	ff_up;			/* n_embd -> n_ff */
	const float *ff_up_bias;
	g2_matrix	ff_down;		/* n_ff -> n_embd */
	const float *ff_down_bias;
} g2_layer;

typedef struct g2_weights
{
	g2_arch		arch;
	g2_format	format;
	g2_matrix	embed;			/* k = n_embd, n = n_vocab: element k of token v stands at
								 * panel v / 48, row k, column v % 48 */
	const float *positions;		/* [n_ctx][n_embd], learned positions */
	g2_layer   *layers;			/* [n_layer] */
	const float *norm_gain;		/* final norm */
	const float *norm_bias;
	g2_matrix	head;			/* n_embd -> n_vocab; the same data as embed when tied */
} g2_weights;

#endif							/* G2_WEIGHTS_H */
