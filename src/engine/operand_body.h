/*
 * operand_body.h: rows of floats to what products with bf16, q8 and q4 weights take (g2_operand);
 * included by kernels_body.h.  v16_store_bf16, v16_store_bytes: see there.
 */

#define OPERAND_STEP (G2_OPERAND_ROWS * 4)	/* bytes from 4 bytes of a row to its next 4 */

/* 4 bytes each of `from` to every OPERAND_STEP-th place. */
INLINE void
scatter(char *to, const void *from, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++)
		memcpy(to + i * OPERAND_STEP, (const char *) from + 4 * i, 4);
}

static void
convert_bf16_row(const float *x, uint32_t k, char *to)
{
	uint16_t	half[G2_LANES];
	uint32_t	whole = k / G2_LANES * G2_LANES;

	for (uint32_t i = 0; i < whole; i += G2_LANES, to += OPERAND_STEP * G2_LANES / 2)
	{
		v16_store_bf16(half, v16_load(x + i));
		scatter(to, half, G2_LANES / 2);
	}
	if (whole < k)
	{
		v16_store_bf16(half, v16_load_n(x + whole, k - whole, 0.0f));
		scatter(to, half, (k - whole + 1) / 2);
	}
}

static void
convert_bf16(const float *x, size_t ldx, uint32_t row, uint32_t row_end, uint32_t k,
			 const g2_operand *to)
{
	const size_t tile = (size_t) (k + 1) / 2 * OPERAND_STEP;

	for (uint32_t r = row; r < G2_ROUND_UP(row_end, G2_OPERAND_ROWS); r++)
	{
		char	   *at = (char *) to->x + r / G2_OPERAND_ROWS * tile + r % G2_OPERAND_ROWS * 4;

		if (r < row_end)
			convert_bf16_row(x + r * ldx, k, at);
		else
			for (uint32_t i = 0; i < (k + 1) / 2; i++)
				memset(at + (size_t) i * OPERAND_STEP, 0, 4);
	}
}

/* 32 values to bytes and their scale; returns the sum of the bytes. */
INLINE int32_t
quantize(v16 x0, v16 x1, int8_t *q, float *scale)
{
	const uint32_t least = (127 - 100) << 23;	/* 2^-100 */
	/* As integers, of which inf and NaN are the largest. */
	uint32_t	largest = v16_largest_bits(v16_max_bits(v16_abs(x0), v16_abs(x1)));
	int32_t		sum = 0;
	v16			inverse;

	if (largest < least || largest >= 0x7f800000u)
	{
		memset(q, 0, G2_GROUP);
		*scale = largest < least ? 0.0f : __builtin_nanf("");
		return 0;
	}
	*scale = g2_bits_float(largest) / 127.0f;
	inverse = v16_set1(127.0f / g2_bits_float(largest));
	v16_store_bytes(q, v16_mul(x0, inverse));
	v16_store_bytes(q + G2_LANES, v16_mul(x1, inverse));
	for (int i = 0; i < G2_GROUP; i++)
		sum += q[i];
	return sum;
}

/* offset: what was added to the weights to make them unsigned. */
INLINE void
convert_int(const float *x, size_t ldx, uint32_t row, uint32_t row_end, uint32_t k,
			const g2_operand *to, const int32_t offset)
{
	const uint32_t groups = (k + G2_GROUP - 1) / G2_GROUP;

	for (uint32_t r = row; r < G2_ROUND_UP(row_end, G2_OPERAND_ROWS); r++)
	{
		size_t		at = (size_t) (r / G2_OPERAND_ROWS) * groups;
		uint32_t	i = r % G2_OPERAND_ROWS;
		const float *from = x + r * ldx;

		for (uint32_t g = 0; g < groups; g++, at++, from += G2_GROUP)
		{
			uint32_t	n = r < row_end ? G2_MIN(k - g * G2_GROUP, (uint32_t) G2_GROUP) : 0;
			int8_t		q[G2_GROUP];
			v16			x0,
						x1;

			if (n == G2_GROUP)
			{
				x0 = v16_load(from);
				x1 = v16_load(from + G2_LANES);
			}
			else
			{
				x0 = v16_load_n(from, G2_MIN(n, (uint32_t) G2_LANES), 0.0f);
				x1 = n <= G2_LANES ? v16_zero() :
					v16_load_n(from + G2_LANES, n - G2_LANES, 0.0f);
			}
			to->start[at * G2_OPERAND_ROWS + i] = -offset *
				quantize(x0, x1, q, &to->scale[at * G2_OPERAND_ROWS + i]);
			scatter((char *) to->x + at * G2_GROUP * G2_OPERAND_ROWS + 4 * i, q, G2_GROUP / 4);
		}
	}
}

static void
convert_q8(const float *x, size_t ldx, uint32_t row, uint32_t row_end, uint32_t k,
		   const g2_operand *to)
{
	convert_int(x, ldx, row, row_end, k, to, 128);
}

static void
convert_q4(const float *x, size_t ldx, uint32_t row, uint32_t row_end, uint32_t k,
		   const g2_operand *to)
{
	convert_int(x, ldx, row, row_end, k, to, 8);
}
