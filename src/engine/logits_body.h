/*
 * logits_body.h: what sampling asks of logits; included by kernels_body.h.
 */
static float
largest(const float *x, uint32_t n, bool *clean)
{
	v16			max = v16_set1(-__builtin_inff()),
				bad = v16_zero(),
				low = v16_set1(-FLT_MAX);

	for (uint32_t i = 0; i < n; i += G2_LANES)
	{
		v16			v = n - i >= G2_LANES ? v16_load(x + i) :
			v16_load_n(x + i, n - i, -__builtin_inff());

		max = v16_max(v, max);	/* a NaN in v gives the second operand */
		bad = v16_fma(v16_max(low, v), v16_zero(), bad);	/* NaN from NaN and +inf only */
	}
	*clean = v16_sum(bad) == 0.0f;
	return v16_largest(max);
}

#define ADD(a, b) ((a) + (b))

static double
sum_exp(const float *x, uint32_t n, float max)
{
	double		sum = 0.0;
	v16			m = v16_set1(max);

	for (uint32_t block = 0; block < n; block += 1024)
	{
		uint32_t	end = G2_MIN(block + 1024, n);
		double		lane[G2_LANES] = {0.0};

		for (uint32_t i = block; i < end; i += G2_LANES)
		{
			v16			v = end - i >= G2_LANES ? v16_load(x + i) :
				v16_load_n(x + i, end - i, -__builtin_inff());
			float		e[G2_LANES];

			v16_store(e, v16_exp(v16_sub(v, m)));
			for (int j = 0; j < G2_LANES; j++)
				lane[j] += (double) e[j];
		}
		TREE(lane, ADD);
		sum += lane[0];
	}
	return sum;
}

static uint64_t
weights(const float *x, uint32_t n, float max, float temperature, uint64_t *w)
{
	uint64_t	sum = 0;
	v16			m = v16_set1(max),
				t = v16_set1(temperature),
				scale = v16_set1(0x1p45f);

	for (uint32_t i = 0; i < n; i += G2_LANES)
	{
		uint32_t	lanes = G2_MIN(n - i, (uint32_t) G2_LANES);
		v16			v = lanes == G2_LANES ? v16_load(x + i) :
			v16_load_n(x + i, lanes, -__builtin_inff());
		float		e[G2_LANES];

		v16_store(e, v16_mul(v16_exp(v16_div(v16_sub(v, m), t)), scale));
		for (uint32_t j = 0; j < lanes; j++)
		{
			w[i + j] = (uint64_t) (int64_t) e[j];
			sum += w[i + j];
		}
	}
	return sum;
}

#define MAP(fn) \
	for (size_t i = 0; i < n; i += G2_LANES) \
	{ \
		size_t		rest = n - i; \
		if (rest >= G2_LANES) \
			v16_store(y + i, fn(v16_load(x + i))); \
		else \
			v16_store_n(y + i, fn(v16_load_n(x + i, (uint32_t) rest, 0.0f)), (uint32_t) rest); \
	} \
	break

static void
map(g2_math fn, const float *x, float *y, size_t n)
{
	switch (fn)
	{
		case G2_MATH_EXP:
			MAP(v16_exp);
		case G2_MATH_LOG:
			MAP(v16_log);
		case G2_MATH_TANH:
			MAP(v16_tanh);
		case G2_MATH_ERF:
			MAP(v16_erf);
		case G2_MATH_GELU_NEW:
			MAP(v16_gelu_new);
		case G2_MATH_GELU:
			MAP(v16_gelu);
		case G2_MATH_RELU:
			MAP(v16_relu);
	}
}
