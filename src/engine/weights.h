/*
 * weights.h: what a model is to the forward pass: its graph (one struct for every architecture)
 * and its weights, as pointers into a mapped pack.  Owned by the pack; read-only; any thread.
 *
 * Matrices are stored in panels of 48 output columns, so that a product reads each panel as one
 * sequential stream.  N is padded to a multiple of 48 with zeros, K as the format says.  One layout
 * serves every instruction set.  A panel, by format (g2_panel_bytes):
 *
 *   f32   [k][48] floats
 *   bf16  [k/2][48][2]: pairs of neighbouring k; K padded to 2
 *   q8    [k/32][8][48][4] bytes: by groups of 32 k, in each by quads of k; weight + 128, so 1 ..
 *         255; then the scales [k/32][48] as bf16, w = (byte - 128) scale; K padded to 32
 *   q4    [k/32][4][48][4] bytes: each holds weight + 8 of two k of a group: quad 2j in the low
 *         halves, quad 2j + 1 in the high ones; then the scales as in q8
 *
 * Each part of a panel starts at a multiple of 64 bytes.  Padding weighs nothing: its weights are
 * zero (128, 8 in the unsigned forms).
 */
#ifndef G2_WEIGHTS_H
#define G2_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define G2_PANEL 48

#define G2_GROUP 32				/* k that share a scale in q8 and q4 */

/* Of a matrix, and of a model: in a q4 model, embedding and head are q8.  Numbers go into packs. */
typedef enum g2_format
{
	G2_FORMAT_F32 = 0,			/* weights f32, KV f32: the reference */
	G2_FORMAT_BF16 = 1,			/* this and the next: KV bf16 */
	G2_FORMAT_Q8 = 2,			/* activations too: 8 bits, a scale per row and group */
	G2_FORMAT_Q4 = 3,			/* activations as in q8 */
	G2_FORMATS
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

/* K inputs -> n outputs; data = [n_padded / 48] panels. */
typedef struct g2_matrix
{
	const void *data;
	g2_format	format;
	uint32_t	k;
	uint32_t	n;
	uint32_t	n_padded;
} g2_matrix;

/* Bytes of a panel of k inputs, and where its scales start (q8, q4). */
extern size_t g2_panel_bytes(g2_format format, uint32_t k);
extern size_t g2_panel_scales(g2_format format, uint32_t k);

/* Column n of the matrix, dequantized: k floats to x. */
extern void g2_matrix_column(const g2_matrix *m, uint32_t n, float *x);

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

/* What an adapter (adapter.h) adds to the product of the same inputs with a matrix of a layer, before
 * the activation: (x down) up, in f32. */
typedef struct g2_low_rank
{
	const float *down;			/* [up.k][k]: what each of the rank's sums takes of the inputs; NULL:
								 * nothing is added */
	uint32_t	k;
	g2_matrix	up;				/* rank -> n */
} g2_low_rank;

typedef struct g2_layer_adapter
{
	g2_low_rank qkv;
	g2_low_rank attn_out;
	g2_low_rank ff_up;
	g2_low_rank ff_down;
} g2_layer_adapter;

typedef struct g2_weights
{
	g2_arch		arch;
	g2_format	format;			/* of the model */
	g2_matrix	embed;			/* k = n_embd, n = n_vocab: column v is token v */
	const float *positions;		/* [n_ctx][n_embd], learned positions */
	g2_layer   *layers;			/* [n_layer] */
	const float *norm_gain;		/* final norm */
	const float *norm_bias;
	g2_matrix	head;			/* n_embd -> n_vocab; the same data as embed when tied */
	const g2_layer_adapter *adapter;	/* [n_layer]; NULL: none */
	uint32_t	adapter_rank;	/* the largest of its ranks */
} g2_weights;

#endif							/* G2_WEIGHTS_H */
