/*
 * attend_body.h: attention over one type of cache; included by kernels_body.h for each.
 *
 * KV_TYPE is an element of the cache, KV_LOAD 16 of them as floats, KV(name) the type's name of a
 * function.
 */

/* 16 v columns of the weighted values of nq queries: value = value shrink + sum over keys. */
INLINE void
KV(add_values) (const int nq, const int v, float *const *value, const float *p,
				const float *shrink, const KV_TYPE *values, uint32_t dv, uint32_t n_keys)
{
	v16			acc[ATTEND_Q][2];

	UNROLL
	for (int q = 0; q < nq; q++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			acc[q][j] = v16_mul(v16_load(value[q] + j * G2_LANES), v16_set1(shrink[q]));
	}
	for (uint32_t key = 0; key < n_keys; key++, values += dv)
	{
		UNROLL
		for (int q = 0; q < nq; q++)
		{
			v16			w = v16_set1(p[q * G2_BLOCK + (int) key]);

			UNROLL
			for (int j = 0; j < v; j++)
				acc[q][j] = v16_fma(w, KV_LOAD(values + j * G2_LANES), acc[q][j]);
		}
	}
	UNROLL
	for (int q = 0; q < nq; q++)
	{
		UNROLL
		for (int j = 0; j < v; j++)
			v16_store(value[q] + j * G2_LANES, acc[q][j]);
	}
}

/* Values c .. c + 16 v - 1 of all that the queries see: of the keys that all see by one loop, then of
 * what the later ones see besides. */
INLINE void
KV(add_columns) (const int nq, const int v, const attend_row *row, uint32_t c, const float *p,
				 const float *shrink, const KV_TYPE *values, uint32_t dv, uint32_t seen)
{
	const float one = 1.0f;
	float	   *value[ATTEND_Q];

	UNROLL
	for (int i = 0; i < nq; i++)
		value[i] = row[i].value + c;
	KV(add_values) (nq, v, value, p, shrink, values + c, dv, seen);
	for (int i = 1; i < nq && seen < G2_BLOCK; i++)
		KV(add_values) (1, v, value + i, p + i * G2_BLOCK + seen, &one,
						values + (size_t) seen * dv + c, dv, keys_seen(seen, i) - seen);
}

/* Queries row .. row + nq - 1 over one block; the first sees `seen` of its keys, the next one more. */
INLINE void
KV(attend_block) (const int nq, const g2_attention *a, uint32_t row, const KV_TYPE *keys,
				  uint32_t seen, float *state, float *p)
{
	const KV_TYPE *values = keys + (size_t) a->head_dim * G2_BLOCK;
	const float *q[ATTEND_Q];
	v16			s[ATTEND_Q][2],
				scale = v16_set1(a->scale);
	attend_row	state_of[ATTEND_Q];
	float		shrink[G2_LANES];

	UNROLL
	for (int i = 0; i < nq; i++)
	{
		q[i] = a->q + (row + (uint32_t) i) * a->ldq;
		s[i][0] = s[i][1] = v16_zero();
	}
	for (uint32_t d = 0; d < a->head_dim; d++, keys += G2_BLOCK)
	{
		v16			k0 = KV_LOAD(keys),
					k1 = KV_LOAD(keys + G2_LANES);

		UNROLL
		for (int i = 0; i < nq; i++)
		{
			v16			x = v16_set1(q[i][d]);

			s[i][0] = v16_fma(x, k0, s[i][0]);
			s[i][1] = v16_fma(x, k1, s[i][1]);
		}
	}
	UNROLL
	for (int i = 0; i < nq; i++)
	{
		state_of[i] = state_of_row(state, a->dv, row + (uint32_t) i);
		v16_store(p + i * G2_BLOCK, v16_mul(s[i][0], scale));
		v16_store(p + i * G2_BLOCK + G2_LANES, v16_mul(s[i][1], scale));
	}
	soften(nq, p, seen, state_of, shrink);
	for (uint32_t c = 0; c < a->dv; c += 2 * G2_LANES)
	{
		if (a->dv - c >= 2 * G2_LANES)
			KV(add_columns) (nq, 2, state_of, c, p, shrink, values, a->dv, seen);
		else
			KV(add_columns) (nq, 1, state_of, c, p, shrink, values, a->dv, seen);
	}
}

static void
KV(attend) (const g2_attention *a, float *scratch)
{
	float	   *p = scratch,
			   *state = scratch + 8 * G2_BLOCK;
	uint32_t	last = a->position + a->rows - 1;

	for (uint32_t r = 0; r < a->rows; r++)
	{
		attend_row	row = state_of_row(state, a->dv, r);

		memset(row.value, 0, a->dv * sizeof(float));
		*row.max = -__builtin_inff();
		*row.sum = 0.0f;
	}
	for (uint32_t b = 0; b <= last / G2_BLOCK; b++)
	{
		const KV_TYPE *keys = (const KV_TYPE *) a->cache + a->blocks[b] * a->block_stride;
		uint32_t	start = b * G2_BLOCK,
					r = start > a->position ? start - a->position : 0;

		for (; r + ATTEND_Q <= a->rows; r += ATTEND_Q)
			KV(attend_block) (ATTEND_Q, a, r, keys, keys_seen(a->position + r - start + 1, 0),
							  state, p);
		for (; r < a->rows; r++)
			KV(attend_block) (1, a, r, keys, keys_seen(a->position + r - start + 1, 0), state, p);
	}
	for (uint32_t r = 0; r < a->rows; r++)
	{
		attend_row	row = state_of_row(state, a->dv, r);
		float	   *out = a->out + r * a->ldo;

		for (uint32_t d = 0; d < a->head_dim; d += G2_LANES)
		{
			v16			v = v16_div(v16_load(row.value + d), v16_set1(*row.sum));

			if (a->head_dim - d >= G2_LANES)
				v16_store(out + d, v);
			else
				v16_store_n(out + d, v, a->head_dim - d);
		}
	}
}
