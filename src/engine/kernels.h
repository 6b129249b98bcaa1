/*
 * kernels.h: the inner loops of the CPU back end, one table of functions per instruction set.
 *
 * All tables give the same bits for the same arguments: the bodies are one text (kernels_body.h)
 * over 16 virtual lanes, tile sizes differ, the order of operations of an element does not.
 * Kernels allocate nothing, know no threads and no model; memory that they need is passed in.
 * Row strides (ld...) count floats.  The one exception to equal bits is bf16, whose instruction
 * (where there is one) rounds its own way: see bf16_family.
 */
#ifndef G2_KERNELS_H
#define G2_KERNELS_H

#include "backend.h"

#define G2_LANES 16
#define G2_NO_ACTIVATION UINT32_MAX
#define G2_ALIGN 64				/* of scratch memory */

#define G2_PRODUCT_ROWS 96		/* rows of x that a panel's strips are used for; a multiple of the
								 * large tiles' rows (4, 6, 8) */
#define G2_PAIR_ROWS 3			/* up to so many rows, panels are best given in pairs */
#define G2_PRODUCT_SCRATCH (G2_PRODUCT_ROWS * G2_PANEL)	/* floats */

#define G2_ATTEND_ROWS 32		/* queries of one call of attend */

/*
 * Rows of activations as the products of a format take them.
 *
 * f32: x is [rows][ld] floats.  Else tiles of G2_OPERAND_ROWS (4) rows, zeros where rows or k are
 * missing: bf16 [rows/4][k/2][4][2]; q8 and q4 [rows/4][k/4][4][4] signed bytes, -127 .. 127, with
 * a scale for each row and group of 32 k, and what a dot with the unsigned weights starts from: the
 * sum of the bytes times -128 (q8) or -8 (q4), which is what was added to the weights.
 */
typedef struct g2_operand
{
	void	   *x;
	size_t		ld;				/* f32 */
	float	   *scale;			/* [rows/4][k/32][4] */
	int32_t    *start;			/* [rows/4][k/32][4] */
} g2_operand;

#define G2_OPERAND_ROWS 4

/* Lays out an operand of this format at base (NULL: only counts); returns its bytes.  Not f32. */
extern size_t g2_operand_layout(g2_format format, uint32_t rows, uint32_t k, void *base,
								g2_operand *operand);

/*
 * y[r][c] = activation(sum over k of x[r][k] w[k][c] + bias[c]) + residual[r][c]
 *
 * One accumulator per element, from 0; then bias, activation, residual, each where there is one.
 * All n_padded columns of a panel are written.  The sum, by format of w:
 *   f32   k ascending, fused multiply-add
 *   bf16  k ascending by pairs; without an instruction for it, fused multiply-adds of the even k of
 *         a pair and then of the odd one
 *   q8, q4  groups ascending: sum = fma((float) dot, weight scale * x scale, sum), where dot is the
 *         exact sum of 32 products of integers
 */
typedef struct g2_product
{
	g2_operand	x;
	const void *w;				/* [n_padded / 48] panels */
	uint32_t	k;
	const float *bias;			/* [n_padded] or NULL */
	uint32_t	activation;		/* g2_activation or G2_NO_ACTIVATION */
	const float *residual;		/* [rows][n_padded] or NULL; may be y */
	size_t		ldr;
	float	   *y;				/* [rows][n_padded] */
	size_t		ldy;
} g2_product;

/*
 * Causal attention of up to G2_ATTEND_ROWS consecutive queries of one sequence and one head.
 * Block b of the cache: K as [head_dim][32], right behind it V as [32][dv].
 */
typedef struct g2_attention
{
	const float *q;				/* [rows][head_dim] */
	size_t		ldq;
	float	   *out;			/* [rows][head_dim] */
	size_t		ldo;
	uint32_t	rows;
	uint32_t	position;		/* of the first query; it sees keys 0 .. position */
	uint32_t	head_dim;
	uint32_t	dv;				/* head_dim rounded up to 16 */
	float		scale;
	const void *cache;			/* K of this layer and head in block 0; floats or bf16 */
	size_t		block_stride;	/* elements from block to block */
	const uint32_t *blocks;		/* block table of the sequence */
} g2_attention;

/* Floats of scratch for attend: p [8][32] and, for each row, maximum, sum and dv accumulators. */
#define G2_ATTEND_SCRATCH(dv) (8 * G2_BLOCK + G2_ATTEND_ROWS * ((size_t) (dv) + 2))

typedef enum g2_kv_type
{
	G2_KV_F32,
	G2_KV_BF16,
	G2_KV_TYPES
} g2_kv_type;

typedef enum g2_math
{
	G2_MATH_EXP,
	G2_MATH_LOG,
	G2_MATH_TANH,
	G2_MATH_ERF,
	G2_MATH_GELU_NEW,
	G2_MATH_GELU,
	G2_MATH_RELU
} g2_math;

typedef struct g2_kernels
{
	const char *name;

	/* Panels [panel, panel_end) of rows [row, row_end), row a multiple of G2_OPERAND_ROWS except
	 * in f32; by format of the weights; scratch: G2_PRODUCT_SCRATCH floats. */
	void		(*product[G2_FORMATS]) (const g2_product *p, uint32_t panel, uint32_t panel_end,
										uint32_t row, uint32_t row_end, float *scratch);

	/*
	 * Rows [row, row_end) of x, row a multiple of G2_OPERAND_ROWS, k values each, into the operand
	 * of a format; up to the end of the last tile.  Not for f32 (NULL).  bf16: nearest even.  q8,
	 * q4: scale = largest magnitude / 127, q = x * (127 / largest) to nearest even; scale and q are
	 * 0 where the largest is below 2^-100; the scale is NaN where a value is not finite.
	 */
	void		(*convert[G2_FORMATS]) (const float *x, size_t ldx, uint32_t row, uint32_t row_end,
										uint32_t k, const g2_operand *to);

	/* Which arithmetic bf16 products have: "fma", or the name of the instruction's family. */
	const char *bf16_family;

	/* y = (x - mean) / sqrt(var + epsilon) * gain + bias over n elements; bias may be NULL. */
	void		(*layer_norm) (const float *x, uint32_t n, const float *gain, const float *bias,
							   float epsilon, float *y);

	/* y[j] = the sum over k of x[k] a[j][k], for n rows of a: 16 lanes, k ascending, and one tree. */
	void		(*dots) (const float *x, uint32_t k, const float *a, uint32_t n, float *y);

	/* By type of the cache; scratch: G2_ATTEND_SCRATCH(dv) floats. */
	void		(*attend[G2_KV_TYPES]) (const g2_attention *a, float *scratch);

	/* Largest of x that is not a NaN, -inf if there is none; *clean: neither NaN nor +inf. */
	float		(*max) (const float *x, uint32_t n, bool *clean);

	/* Sum of e^(x - max) in double: blocks of 1,024 ascending, 16 lanes and one tree in each. */
	double		(*sum_exp) (const float *x, uint32_t n, float max);

	/* w = floor(e^((x - max) / temperature) 2^45); returns their sum (n <= 2^18). */
	uint64_t	(*weights) (const float *x, uint32_t n, float max, float temperature, uint64_t *w);

	/* y = fn(x) for n elements. */
	void		(*map) (g2_math fn, const float *x, float *y, size_t n);
} g2_kernels;

extern const g2_kernels g2_kernels_portable;
#if defined(__x86_64__)
extern const g2_kernels g2_kernels_avx2;
extern const g2_kernels g2_kernels_avxvnni;
extern const g2_kernels g2_kernels_avx512;
extern const g2_kernels g2_kernels_avx512vnni;
extern const g2_kernels g2_kernels_avx512bf16;
#elif defined(__aarch64__)
extern const g2_kernels g2_kernels_neon;
#endif

#define G2_KERNEL_SETS 6

/* The tables that run here, fastest first; returns their number. */
extern int	g2_kernels_all(const g2_kernels *tables[G2_KERNEL_SETS]);

/* The table of a name of G2_CPU_NAMES (NULL = "auto").  22023: no such name; 0A000: this machine,
 * or its operating system, lacks it. */
extern bool g2_kernels_choose(const char *isa, const g2_kernels **out, g2_error *err);

/* The fastest table of this machine. */
extern const g2_kernels *g2_kernels_best(void);

#endif							/* G2_KERNELS_H */
