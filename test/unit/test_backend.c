/*
 * test_backend.c: what a back end computes.
 *
 * The logits agree with a naive forward pass in double; their bits do not depend on how a text is
 * cut into plans, on what else is in a plan, on threads, steps per plan or instruction set.
 */
#include "backend_fixture.h"

/* ---- a naive forward pass in double ---- */

static double
element(const g2_matrix *m, uint32_t k, uint32_t n)
{
	return ((const float *) m->data)[((size_t) (n / G2_PANEL) * m->k + k) * G2_PANEL +
									 n % G2_PANEL];
}

static void
naive_linear(const g2_matrix *m, const float *bias, const double *x, double *y)
{
	for (uint32_t n = 0; n < m->n; n++)
	{
		y[n] = bias ? bias[n] : 0.0;
		for (uint32_t k = 0; k < m->k; k++)
			y[n] += x[k] * element(m, k, n);
	}
}

static void
naive_norm(const double *x, const float *gain, const float *bias, double *y)
{
	double		mean = 0.0,
				var = 0.0;

	for (int i = 0; i < EMBD; i++)
		mean += x[i] / EMBD;
	for (int i = 0; i < EMBD; i++)
		var += (x[i] - mean) * (x[i] - mean) / EMBD;
	for (int i = 0; i < EMBD; i++)
		y[i] = (x[i] - mean) / sqrt(var + 1e-5) * gain[i] + bias[i];
}

static void
naive_attention(double (*qkv)[3 * HEADS_WIDTH], uint32_t t, double *out)
{
	for (uint32_t h = 0; h < HEADS; h++)
	{
		double		p[CTX],
					sum = 0.0;

		for (uint32_t s = 0; s <= t; s++)
		{
			p[s] = 0.0;
			for (uint32_t d = h * HEAD_DIM; d < (h + 1) * HEAD_DIM; d++)
				p[s] += qkv[t][d] * qkv[s][HEADS_WIDTH + d];
			sum += p[s] = exp(p[s] * weights.arch.attn_scale);
		}
		for (uint32_t d = h * HEAD_DIM; d < (h + 1) * HEAD_DIM; d++)
		{
			out[d] = 0.0;
			for (uint32_t s = 0; s <= t; s++)
				out[d] += p[s] / sum * qkv[s][2 * HEADS_WIDTH + d];
		}
	}
}

static void
naive_forward(uint32_t n, double (*logits)[VOCAB])
{
	static double x[CTX][EMBD],
				qkv[CTX][3 * HEADS_WIDTH];
	double		h[EMBD],
				a[HEADS_WIDTH],
				f[FF];

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t i = 0; i < EMBD; i++)
			x[t][i] = element(&weights.embed, i, text[t]) + weights.positions[t * EMBD + i];
	for (const g2_layer *l = layers; l < layers + LAYERS; l++)
	{
		for (uint32_t t = 0; t < n; t++)
		{
			naive_norm(x[t], l->norm1_gain, l->norm1_bias, h);
			naive_linear(&l->qkv, l->qkv_bias, h, qkv[t]);
		}
		for (uint32_t t = 0; t < n; t++)
		{
			naive_attention(qkv, t, a);
			naive_linear(&l->attn_out, l->attn_out_bias, a, h);
			for (int i = 0; i < EMBD; i++)
				x[t][i] += h[i];
			naive_norm(x[t], l->norm2_gain, l->norm2_bias, h);
			naive_linear(&l->ff_up, l->ff_up_bias, h, f);
			for (int i = 0; i < FF; i++)
				f[i] = 0.5 * f[i] * (1.0 + tanh(0.7978845608028654 *
												(f[i] + 0.044715 * f[i] * f[i] * f[i])));
			naive_linear(&l->ff_down, l->ff_down_bias, f, h);
			for (int i = 0; i < EMBD; i++)
				x[t][i] += h[i];
		}
	}
	for (uint32_t t = 0; t < n; t++)
	{
		naive_norm(x[t], weights.norm_gain, weights.norm_bias, h);
		naive_linear(&weights.head, NULL, h, logits[t]);
	}
}

/* ---- tests ---- */

static float *expected;			/* all_logits of the whole text, portable kernels, one thread */

static void
test_reference(void **state)
{
	enum
	{
		N = 130
	};
	static double naive[N][VOCAB];
	device		d;
	double		worst = 0.0,
				largest = 0.0;

	(void) state;
	api = &g2_cpu_backend;
	d = open_device(1, "portable");
	assert_string_equal(api->isa(d.backend), "portable");
	assert_string_equal(api->arithmetic(d.backend, G2_FORMAT_F32), "exact-1");
	expected = all_logits(&d, CTX, CTX, 0);
	naive_forward(N, naive);
	for (int t = 0; t < N; t++)
		for (int v = 0; v < VOCAB; v++)
		{
			largest = fmax(largest, fabs(naive[t][v]));
			worst = fmax(worst, fabs(naive[t][v] - expected[t * VOCAB + v]));
		}
	print_message("largest difference from double: %.2e of %.2e\n", worst, largest);
	assert_true(worst < 1e-5 * largest);
	close_device(&d);
	api = BACKEND;
}

static void
test_same_bits(void **state)
{
	static const uint32_t chunks[] = {CTX, 1, 7, 16, 100, 31, 513};

	(void) state;
	for (uint32_t threads = 1; threads <= (CUDA ? 1 : 4); threads++)
	{
		device		d = open_device(threads, ISA);

		for (size_t i = 0; i < G2_LENGTH(chunks); i++)
			for (uint32_t others = 0; others <= 2; others++)
			{
				float	   *logits;

				/* One by one, an emulated device under a sanitizer takes minutes. */
				if (CUDA && chunks[i] < 100 && getenv("GPT2_TEST_QUICK"))
					continue;
				/* With one thread everything, with more a part: time. */
				if ((threads > 1 || CUDA) && (i + others + threads) % (CUDA ? 4 : 3) != 0)
					continue;
				logits = all_logits(&d, CTX, chunks[i], others);
				assert_memory_equal(logits, expected, (size_t) CTX * VOCAB * sizeof *logits);
				free(logits);
			}
		close_device(&d);
	}
}

/* n sequences prefilled with the first tokens of the text, then `steps` tokens sampled each. */
static void
generate(device *d, uint32_t n, uint32_t steps, uint32_t per_plan, uint32_t end, float penalty,
		 bool queue_two, uint32_t *tokens, double *logprobs, uint8_t *ended)
{
	uint32_t	table[16][4],
				token[16 * 40],
				position[16 * 40];
	g2_plan_sequence seq[16];
	g2_output	out[16];
	g2_plan		plan = {.model = d->model, .n_steps = 1, .token = token, .position = position,
		.n_sequences = n, .sequences = seq, .n_outputs = n, .outputs = out};
	g2_result	result = {.token = tokens, .logprob = logprobs, .ended = ended},
				second;
	uint32_t	done = 1,
				token2[16],
				position2[16];
	g2_plan		plan2;
	g2_plan_sequence seq2[16];
	g2_output	out2[16];
	g2_error	err;

	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t	len = 3 + i * 2;

		set_slot(d, i, i % 2 ? 0.9f : 0.0f, penalty, end, text, len);
		for (uint32_t b = 0; b < 4; b++)
			table[i][b] = i * 4 + b;
		seq[i] = (g2_plan_sequence) {i, plan.n_rows, len, table[i]};
		for (uint32_t r = 0; r < len; r++, plan.n_rows++)
		{
			token[plan.n_rows] = text[r];
			position[plan.n_rows] = r;
		}
		out[i] = (g2_output) {
			.row = plan.n_rows - 1, .slot = i, .want = G2_WANT_TOKEN | G2_WANT_LOGPROB,
		};
	}
	run(d, &plan, &result);
	while (done < steps)
	{
		uint32_t	k = G2_MIN(per_plan, steps - done),
					k2 = queue_two ? G2_MIN(per_plan, steps - done - k) : 0;

		for (uint32_t i = 0; i < n; i++)
		{
			token[i] = token2[i] = G2_TOKEN_PREVIOUS;
			position[i] = 3 + i * 2 + done - 1;
			position2[i] = position[i] + k;
			seq[i] = (g2_plan_sequence) {i, i, 1, table[i]};
			out[i] = (g2_output) {
				.row = i, .slot = i, .want = G2_WANT_TOKEN | G2_WANT_LOGPROB,
			};
		}
		plan.n_rows = n;
		plan.n_steps = k;
		result.token = tokens + done * n;
		result.logprob = logprobs + done * n;
		result.ended = ended + done * n;
		submit(d, &plan, &result);
		if (k2 > 0)
		{
			memcpy(seq2, seq, sizeof seq);
			memcpy(out2, out, sizeof out);
			plan2 = plan;
			plan2.token = token2;
			plan2.position = position2;
			plan2.sequences = seq2;
			plan2.outputs = out2;
			plan2.n_steps = k2;
			second = (g2_result) {.token = tokens + (done + k) * n,
				.logprob = logprobs + (done + k) * n, .ended = ended + (done + k) * n};
			submit(d, &plan2, &second);
			assert_false(api->step_submit(d->backend, &plan2, &second, &err));
		}
		assert_true(finish(d, &result, &err));
		if (k2 > 0)
			assert_true(finish(d, &second, &err));
		done += k + k2;
	}
}

static void
test_steps(void **state)
{
	enum
	{
		N = CUDA ? 5 : 9,
		STEPS = CUDA ? 30 : 60
	};
	static uint32_t token[2][STEPS * N];
	static double logprob[2][STEPS * N];
	static uint8_t ended[2][STEPS * N];

	(void) state;
	for (int variant = CUDA && getenv("GPT2_TEST_QUICK") ? 2 : 0; variant < 3; variant++)
	{
		float		penalty = variant == 2 ? 1.3f : 1.0f;
		uint32_t	end = G2_TOKEN_NONE;
		device		d = open_device(2, ISA);
		bool		rested = false;

		generate(&d, N, STEPS, 1, end, penalty, false, token[0], logprob[0], ended[0]);
		if (variant > 0)
		{
			end = token[0][20 * N + 1];	/* so that some sequence ends early */
			generate(&d, N, STEPS, 1, end, penalty, false, token[0], logprob[0], ended[0]);
		}
		for (uint32_t per_plan = 1; per_plan <= G2_MAX_STEPS;
			 per_plan += CUDA ? 16 : 9)
			for (int two = 0; two <= 1; two++)
			{
				generate(&d, N, STEPS, per_plan, end, penalty, two, token[1], logprob[1],
						 ended[1]);
				assert_memory_equal(token[1], token[0], sizeof token[0]);
				assert_memory_equal(ended[1], ended[0], sizeof ended[0]);
				for (int i = 0; i < STEPS * N; i++)
				{
					if (token[0][i] == G2_TOKEN_NONE)
						assert_true(isnan(logprob[0][i]) && isnan(logprob[1][i]));
					else
						assert_memory_equal(&logprob[1][i], &logprob[0][i], sizeof(double));
				}
			}
		for (int s = 0; s < STEPS; s++)
			for (int i = 0; i < N; i++)
			{
				bool		over = false;

				for (int before = 0; before < s; before++)
					over |= token[0][before * N + i] == end;
				assert_int_equal(token[0][s * N + i] == G2_TOKEN_NONE, over);
				assert_int_equal(ended[0][s * N + i],
								 !over && token[0][s * N + i] == end && end != G2_TOKEN_NONE);
				rested |= over;
			}
		assert_int_equal(rested, variant > 0);
		close_device(&d);
	}
}

/* One prompt's row with more outputs than the head takes at once, all kinds of wishes. */
static void
test_outputs(void **state)
{
	enum
	{
		N = 150,
		ROWS = 90,
		TOP = 5
	};
	static float logits[N * VOCAB],
				norm[N * EMBD];
	static uint32_t token[N],
				top[N * TOP];
	static double logprob[N],
				top_logprob[N * TOP];
	static uint8_t ended[N];
	device		d = open_device(2, ISA);
	uint32_t	position[ROWS],
				table[] = {4, 9, 1};
	static const uint32_t banned[] = {7};
	uint64_t	mask[(VOCAB + 63) / 64] = {1 << 3, 1 << 5};
	g2_plan_sequence seq = {G2_TOKEN_NONE, 0, ROWS, table};
	g2_output	out[N];
	g2_plan		plan = {.model = d.model, .n_steps = 1, .n_rows = ROWS, .token = text,
		.position = position, .n_sequences = 1, .sequences = &seq, .n_outputs = N,
		.outputs = out, .n_top = TOP};
	g2_result	result = {
		.token = token, .logprob = logprob, .ended = ended, .top_token = top,
		.top_logprob = top_logprob, .logits = logits, .norm = norm,
	};

	(void) state;
	for (uint32_t i = 0; i < ROWS; i++)
		position[i] = i;
	for (uint32_t i = 0; i < N; i++)
	{
		set_slot(&d, i, i % 2 ? 1.0f : 0.0f, i % 3 ? 1.0f : 1.5f, G2_TOKEN_NONE, text, 20);
		out[i] = (g2_output) {
			.row = i < 40 ? ROWS - 1 : i * 7 % ROWS, .slot = i,
			.want = G2_WANT_LOGPROB | G2_WANT_TOP | G2_WANT_LOGITS | G2_WANT_NORM |
				(i % 4 ? G2_WANT_TOKEN : 0), .target = i,
		};
		out[i].banned = banned;
		out[i].n_banned = 1;
		if (i % 5 == 2)
			out[i].mask = mask;	/* only two may come; logits and logprobs are as ever */
	}
	run(&d, &plan, &result);
	for (uint32_t i = 0; i < N; i++)
	{
		const float *l = expected + out[i].row * VOCAB;
		uint32_t	id = i % 4 ? token[i] : i,
					best = 0,
					best_allowed = 0;
		double		sum = 0.0;

		assert_memory_equal(logits + i * VOCAB, l, VOCAB * sizeof *l);
		for (uint32_t v = 0; v < VOCAB; v++)
		{
			sum += exp(l[v]);
			best = l[v] > l[best] ? v : best;
			best_allowed = v != banned[0] && l[v] > l[best_allowed] ? v : best_allowed;
		}
		assert_true(id < VOCAB && (i % 4 == 0 || id != banned[0]));
		assert_true(fabs(logprob[i] - (l[id] - log(sum))) < 1e-6);
		if (i % 4 && out[i].mask)
		{
			assert_true(id == 3 || id == 69);
			if (i % 2 == 0 && i % 3)
				assert_int_equal(id, l[69] > l[3] ? 69 : 3);
		}
		else if (i % 4 && i % 2 == 0 && i % 3)
			assert_int_equal(id, best_allowed);
		assert_int_equal(top[i * TOP], best);
		for (uint32_t t = 0; t < TOP; t++)
		{
			assert_true(fabs(top_logprob[i * TOP + t] - (l[top[i * TOP + t]] - log(sum))) < 1e-6);
			assert_true(t == 0 || l[top[i * TOP + t]] <= l[top[i * TOP + t - 1]]);
		}
		sum = 0.0;
		for (uint32_t k = 0; k < EMBD; k++)
			sum += norm[i * EMBD + k] * element(&weights.head, k, best);
		assert_true(fabs(sum - l[best]) < 1e-4);
	}
	close_device(&d);
}

/* The best by score: log-probabilities behind bias, penalties and bans of slot and output. */
static void
test_candidates(void **state)
{
	enum
	{
		ROWS = 60,
		TOP = 40
	};
	static const g2_bias biases[] = {{3, 2.5f}, {150, -3}};
	static const uint32_t banned[] = {7, 9};
	static const uint32_t never[] = {11, 150, 12};
	static uint32_t top[2 * TOP];
	static double logprob[2 * TOP],
				score[2 * TOP];
	device		d = open_device(2, ISA);
	uint32_t	position[ROWS],
				table[] = {4, 9};
	g2_plan_sequence seq = {G2_TOKEN_NONE, 0, ROWS, table};
	const g2_slot_state slot = {
		.sampling = {
			.repetition_penalty = 1.5f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f,
			.biases = biases, .n_biases = 2, .banned = never, .n_banned = 3, .spared = 12,
			.min_new = 4, .top_p = 1,
		},
		.next_index = 3, .most_new = 10, .end_token = 5, .history = text, .n_history = 20,
	};
	/* Twice the same: the slot stays as it is. */
	g2_output	out[] = {
		{.row = ROWS - 1, .slot = 0, .want = G2_WANT_CANDIDATES, .banned = banned, .n_banned = 2},
		{.row = ROWS - 1, .slot = 0, .want = G2_WANT_CANDIDATES, .banned = banned, .n_banned = 2},
	};
	g2_plan		plan = {.model = d.model, .n_steps = 1, .n_rows = ROWS, .token = text,
		.position = position, .n_sequences = 1, .sequences = &seq, .n_outputs = 2,
		.outputs = out, .n_top = TOP};
	g2_result	result = {.top_token = top, .top_logprob = logprob, .top_score = score};
	const float *l = expected + (ROWS - 1) * VOCAB;
	double		want[VOCAB],
				sum = 0;
	bool		chosen[VOCAB] = {false};

	(void) state;
	for (uint32_t i = 0; i < ROWS; i++)
		position[i] = i;
	assert_true(api->slot_set(d.backend, 0, &slot, NULL));
	run(&d, &plan, &result);
	assert_memory_equal(top, top + TOP, TOP * sizeof *top);
	assert_memory_equal(score, score + TOP, TOP * sizeof *score);
	for (uint32_t v = 0; v < VOCAB; v++)
		sum += exp(l[v]);
	for (uint32_t v = 0; v < VOCAB; v++)
	{
		uint32_t	n = 0;
		bool		seen = false;

		want[v] = l[v] - log(sum) + (v == 3 ? 2.5 : v == 150 ? -3 : 0);
		for (uint32_t i = 0; i < 20; i++)
		{
			seen |= text[i] == v;
			n += i >= 17 && text[i] == v;
		}
		want[v] *= seen ? (want[v] < 0 ? 1.5 : 1 / 1.5) : 1;
		want[v] -= n > 0 ? n * 0.25 + 0.5 : 0;
		if (v == 7 || v == 9 || v == 11 || v == 5)
			want[v] = -INFINITY;
	}
	for (uint32_t t = 0; t < TOP; t++)
	{
		chosen[top[t]] = true;
		assert_true(fabs(score[t] - want[top[t]]) < 1e-5);
		assert_true(fabs(logprob[t] - (l[top[t]] - log(sum))) < 1e-6);
		assert_true(t == 0 || score[t] <= score[t - 1]);
	}
	for (uint32_t v = 0; v < VOCAB; v++)
		assert_true(chosen[v] || want[v] <= score[TOP - 1] + 1e-5);
	close_device(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_outputs),
		cmocka_unit_test(test_candidates),
	};
	int			rc;

	choose_backend();
	make_model();
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(expected);
	free_model();
	return rc;
}
