/*
 * test_train_network.c: a whole model's gradient against PyTorch's and against a finite difference;
 * the same bits for any number of threads, with and without recomputation, on every instruction
 * set; cutting a batch; 100 steps of each optimizer against PyTorch's.
 */
#include "train_fixture.h"

typedef struct model
{
	g2_synth_options options;
	g2_arch		arch;
	g2t_parameters p;
	g2t_parameters adapters;
	sequences	s;
} model;

static reader vectors;

/* The whole model of gradients.vec; the reader stands behind its sequences. */
static void
open_model(model *m)
{
	reader_open(&vectors, "gradients");
	while (strcmp(need_word(&vectors), "model") != 0)
		;
	m->options = read_options(&vectors);
	m->arch = arch_of(&m->options);
	m->p = synth_parameters(&m->options, G2T_TWO_MOMENTS);
	memset(&m->adapters, 0, sizeof m->adapters);
	read_sequences(&vectors, &m->s);
}

static void
close_model(model *m)
{
	g2t_parameters_close(&m->p);
	g2t_parameters_close(&m->adapters);
	free_sequences(&m->s);
	free(vectors.data);
}

static uint32_t
rows_of(const sequences *s)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < s->n; i++)
		n += s->len[i] - 1;
	return n;
}

static g2t_network *
open_network(const model *m, const g2t_context *context, float dropout, bool recompute)
{
	g2t_network_options o = {.rows = 64, .dropout = dropout, .seed = 3, .adapter_scale = 2.0f,
	.recompute = recompute};
	g2t_network *net;
	g2_error	err;

	EXPECT_OK(g2t_network_open(&m->arch, context, &m->p, &m->adapters, &o, &net, &err), err);
	return net;
}

/* The mean loss; the model's gradients are set. */
static double
run(const model *m, uint32_t threads, float dropout, bool recompute)
{
	g2t_context context = open_context(threads);
	g2t_network *net = open_network(m, &context, dropout, recompute);
	test_batch	b;
	double		loss;

	make_batch(&m->s, 0, m->s.n, &b);
	loss = g2t_network_backward(net, &b.batch, 5, 1.0f / (float) b.batch.n) / b.batch.n;
	g2t_network_close(net);
	g2t_context_close(&context);
	return loss;
}

static void
test_gradients(void **state)
{
	model		m;
	uint32_t	n;
	float		loss,
				expected;

	(void) state;
	open_model(&m);
	expected = (float) need_key(&vectors, "loss");
	loss = (float) run(&m, 2, 0.0f, false);
	expect_near("loss", &loss, &expected, 1, 1e-5);
	n = (uint32_t) need_key(&vectors, "gradients");
	assert_int_equal(n, m.p.n);
	for (uint32_t i = 0; i < n; i++)
	{
		named		t;

		expect(&vectors, "tensor");
		read_named(&vectors, &t);
		expect_near(t.name, m.p.g + g2t_parameters_at(&m.p, t.name), t.x, t.n, 1e-4);
		free(t.x);
		free(t.ids);
	}
	close_model(&m);
}

static double
loss_of(const model *m, const g2t_context *context)
{
	g2t_network *net = open_network(m, context, 0.0f, false);
	test_batch	b;
	double		loss;

	make_batch(&m->s, 0, m->s.n, &b);
	loss = g2t_network_loss(net, &b.batch);
	g2t_network_close(net);
	return loss / b.batch.n;
}

/* The derivative along a random direction, of the weights or of adapters beside them; with dropout
 * the same is dropped each time. */
static void
check_direction(model *m, g2t_parameters *p, float dropout)
{
	float	   *before = need_memory(p->floats, sizeof(float)),
			   *direction = need_memory(p->floats, sizeof(float));
	const float h = 1.0f / 128;
	double		along = 0,
				above,
				below;

	memset(p->g, 0, p->floats * sizeof(float));
	(void) run(m, 1, dropout, false);
	fill_random(77, p->floats, direction);
	memcpy(before, p->w, p->floats * sizeof(float));
	for (uint32_t t = 0; t < p->n; t++)
		for (size_t i = p->tensor[t].at; i < p->tensor[t].at + g2t_tensor_size(&p->tensor[t]); i++)
		{
			along += (double) p->g[i] * (double) direction[i];
			p->w[i] = before[i] + h * direction[i];
		}
	above = run(m, 1, dropout, false);
	for (size_t i = 0; i < p->floats; i++)
		p->w[i] = before[i] - h * direction[i];
	below = run(m, 1, dropout, false);
	memcpy(p->w, before, p->floats * sizeof(float));
	assert_true(fabs(along) > 0.01);
	assert_true(fabs((above - below) / (2.0 * (double) h) - along) < 0.01 * fabs(along));
	free(before);
	free(direction);
}

static void
test_direction(void **state)
{
	model		m;
	g2_error	err;

	(void) state;
	open_model(&m);
	check_direction(&m, &m.p, 0.0f);
	check_direction(&m, &m.p, 0.3f);
	EXPECT_OK(g2t_adapters_open(&m.arch, 3, G2T_TWO_MOMENTS, &m.adapters, &err), err);
	g2t_parameters_start(&m.adapters, m.arch.n_layer, 4, NULL);
	for (size_t i = 0; i < m.adapters.floats; i++)
		m.adapters.w[i] += 0.125f;	/* lora_b is zero at the start */
	check_direction(&m, &m.adapters, 0.0f);
	check_direction(&m, &m.adapters, 0.3f);
	close_model(&m);
}

/* Nothing is made for somebody who has gone. */
static void
test_start_canceled(void **state)
{
	const atomic_bool cancel = true;
	model		m;

	(void) state;
	open_model(&m);
	memset(m.p.w, 0, m.p.floats * sizeof(float));
	g2t_parameters_start(&m.p, m.arch.n_layer, 4, &cancel);
	for (size_t i = 0; i < m.p.floats; i++)
		assert_true(m.p.w[i] == 0.0f);
	close_model(&m);
}

/* Merged into the weights, adapters say the same. */
static void
test_merge(void **state)
{
	g2t_context context = open_context(1);
	model		m;
	g2_error	err;
	double		beside,
				merged;

	(void) state;
	open_model(&m);
	EXPECT_OK(g2t_adapters_open(&m.arch, 3, G2T_TWO_MOMENTS, &m.adapters, &err), err);
	fill_random(1, m.adapters.floats, m.adapters.w);
	for (size_t i = 0; i < m.adapters.floats; i++)
		m.adapters.w[i] *= 0.25f;
	beside = loss_of(&m, &context);
	g2t_adapters_merge(&context, &m.adapters, 2.0f, &m.p);
	g2t_parameters_close(&m.adapters);
	merged = loss_of(&m, &context);
	assert_true(fabs(beside - merged) < 1e-5);
	close_model(&m);
	g2t_context_close(&context);
}

/* A larger model, so that products have several tiles. */
static void
open_wide_model(model *m)
{
	memset(m, 0, sizeof *m);
	m->options = (g2_synth_options) {.n_layer = 2, .n_embd = 432, .n_head = 8, .n_ff = 1000,
	.n_ctx = 64, .n_vocab = 1500, .sigma = 0.05, .seed = 2};
	m->arch = arch_of(&m->options);
	m->p = synth_parameters(&m->options, G2T_TWO_MOMENTS);
	m->s.n = 3;
	for (uint32_t i = 0; i < m->s.n; i++)
	{
		m->s.len[i] = 21 - 7 * i;
		m->s.ids[i] = need_memory(m->s.len[i], sizeof(uint32_t));
		for (uint32_t j = 0; j < m->s.len[i]; j++)
			m->s.ids[i][j] = (i * 977 + j * 131) % m->options.n_vocab;
	}
}

static void
test_same_bits(void **state)
{
	model		m;
	float	   *g;
	double		loss;

	(void) state;
	open_wide_model(&m);
	g = need_memory(m.p.floats, sizeof(float));
	loss = run(&m, 1, 0.1f, false);
	memcpy(g, m.p.g, m.p.floats * sizeof(float));
	for (uint32_t threads = 1; threads <= 3; threads++)
	{
		assert_true(run(&m, threads, 0.1f, threads != 2) == loss);
		assert_memory_equal(m.p.g, g, m.p.floats * sizeof(float));
	}
	free(g);
	g2t_parameters_close(&m.p);
	free_sequences(&m.s);
}

/* The other kernels give the same bits too. */
static void
test_kernels(void **state)
{
	const g2t_kernels *k;
	model		m;
	test_batch	b;
	float	   *g;
	double		loss = 0;

	(void) state;
	open_wide_model(&m);
	g = need_memory(m.p.floats, sizeof(float));
	make_batch(&m.s, 0, m.s.n, &b);
	for (uint32_t i = 0; (k = g2t_kernels_at(i)); i++)
	{
		g2t_context context = open_context(2);
		g2t_network *net = open_network(&m, &context, 0.1f, false);
		double		l;

		context.kernels = k;
		l = g2t_network_backward(net, &b.batch, 1, 1.0f);
		if (i == 0)
		{
			loss = l;
			memcpy(g, m.p.g, m.p.floats * sizeof(float));
		}
		assert_true(l == loss);
		assert_memory_equal(m.p.g, g, m.p.floats * sizeof(float));
		g2t_network_close(net);
		g2t_context_close(&context);
	}
	free(g);
	g2t_parameters_close(&m.p);
	free_sequences(&m.s);
}

/* So do the optimizers', sizes being no multiple of a vector. */
static void
test_optimizer_kernels(void **state)
{
	enum
	{
		N = 1003, METHODS = 3
	};
	static float g[N],
				first[METHODS][3][N],
				w[3][N];
	const g2t_update u = {.rate = 0.01f, .decay = 0.1f, .gradient_scale = 0.7f, .beta1 = 0.9f,
	.beta2 = 0.99f, .epsilon = 1e-8f, .correction1 = 0.19f, .correction2_root = 0.14f};
	const g2t_kernels *k;
	double		squares = 0;

	(void) state;
	fill_random(1, N, g);
	for (uint32_t i = 0; (k = g2t_kernels_at(i)); i++)
	{
		void		(*const methods[METHODS]) (size_t n, const g2t_update *u, const float *g,
											   float *w, float *m, float *v) = {
			k->adamw, k->adam, k->sgd,
		};

		for (int method = 0; method < METHODS; method++)
		{
			for (int a = 0; a < 3; a++)
				fill_random(2 + (uint64_t) a, N, w[a]);
			for (size_t j = 0; j < N; j++)
				w[2][j] = fabsf(w[2][j]);
			methods[method] (N, &u, g, w[0], w[1], w[2]);
			if (i == 0)
				memcpy(first[method], w, sizeof w);
			assert_memory_equal(first[method], w, sizeof w);
		}
		if (i == 0)
			squares = k->sum_squares(N, g);
		assert_true(k->sum_squares(N, g) == squares);
	}
}

/* A batch may be cut into passes; dropout goes by the row of the step, not of the pass. */
static void
test_passes(void **state)
{
	g2t_context context = open_context(2);
	model		m;
	test_batch	b;
	float	   *g;
	double		whole,
				parts = 0;
	g2t_network *net;

	(void) state;
	open_model(&m);
	net = open_network(&m, &context, 0.2f, false);
	g = need_memory(m.p.floats, sizeof(float));
	make_batch(&m.s, 0, m.s.n, &b);
	whole = g2t_network_backward(net, &b.batch, 1, 1.0f);
	memcpy(g, m.p.g, m.p.floats * sizeof(float));
	for (uint32_t i = 0; i < m.s.n; i++)
	{
		make_batch(&m.s, i, i + 1, &b);
		parts += g2t_network_backward(net, &b.batch, 1, 1.0f);
	}
	assert_true(fabs(whole - parts) < 1e-4);
	expect_near("gradient", m.p.g, g, m.p.floats, 1e-5);
	assert_int_equal(rows_of(&m.s), 16 + 5 + 1);
	free(g);
	g2t_network_close(net);
	close_model(&m);
	g2t_context_close(&context);
}

/* ---- optimizers ---- */

static void
follow_curve(const char *name, const g2t_optimizer *o)
{
	enum
	{
		BATCHES = 8
	};
	g2t_context context = open_context(2);
	model		m = {0};
	sequences	s[BATCHES];
	reader		r;
	uint32_t	steps;
	double		largest = 0;
	g2t_network *net;

	reader_open(&r, "curves");
	m.options = read_options(&r);
	m.arch = arch_of(&m.options);
	m.p = synth_parameters(&m.options, g2t_method_arrays(o->method));
	assert_int_equal(m.p.v == NULL, o->method == G2T_SGD);
	assert_int_equal(need_key(&r, "batches"), BATCHES);
	for (int i = 0; i < BATCHES; i++)
		read_sequences(&r, &s[i]);
	while (strcmp(need_word(&r), "curve") != 0 || strcmp(need_word(&r), name) != 0)
		;
	steps = need_uint(&r);
	net = open_network(&m, &context, 0.0f, false);
	for (uint32_t step = 0; step < steps; step++)
	{
		test_batch	b;
		double		loss,
					expected = need_number(&r);

		make_batch(&s[step % BATCHES], 0, s[step % BATCHES].n, &b);
		loss = g2t_network_backward(net, &b.batch, step, 1.0f / (float) b.batch.n) / b.batch.n;
		largest = fmax(largest, fabs(loss - expected));
		g2t_optimize(&context, o, step, g2t_gradient_norm(&context, &m.p), &m.p);
	}
	print_message("%s: %u steps, largest difference %.1e\n", name, steps, largest);
	assert_true(largest < 1e-3);
	for (int i = 0; i < BATCHES; i++)
		free_sequences(&s[i]);
	free(r.data);
	g2t_network_close(net);
	g2t_parameters_close(&m.p);
	g2t_context_close(&context);
}

static void
test_curves(void **state)
{
	(void) state;
	follow_curve("sgd", &(g2t_optimizer) {.method = G2T_SGD, .rate = 0.1, .beta1 = 0.9,
				 .decay = 0.01, .clip = 1.0});
	follow_curve("adam", &(g2t_optimizer) {.method = G2T_ADAM, .rate = 1e-3, .beta1 = 0.9,
				 .beta2 = 0.999, .epsilon = 1e-8, .decay = 0.01, .clip = 1.0});
	follow_curve("adamw", &(g2t_optimizer) {.method = G2T_ADAMW, .rate = 2e-3, .beta1 = 0.9,
				 .beta2 = 0.98, .epsilon = 1e-8, .decay = 0.1, .clip = 1.0});
}

static void
test_schedules(void **state)
{
	g2t_optimizer o = {.rate = 2.0, .steps = 110, .warmup = 10, .schedule = G2T_COSINE};

	(void) state;
	assert_true(fabs(g2t_rate(&o, 0) - 0.2) < 1e-12);
	assert_true(fabs(g2t_rate(&o, 9) - 2.0) < 1e-12);
	assert_true(fabs(g2t_rate(&o, 10) - 2.0) < 1e-12);
	assert_true(fabs(g2t_rate(&o, 60) - 1.1) < 1e-12);
	assert_true(fabs(g2t_rate(&o, 110) - 0.2) < 1e-12);
	assert_true(fabs(g2t_rate(&o, 500) - 0.2) < 1e-12);
	o.schedule = G2T_LINEAR;
	assert_true(fabs(g2t_rate(&o, 60) - 1.0) < 1e-12);
	o.schedule = G2T_CONSTANT;
	assert_true(fabs(g2t_rate(&o, 60) - 2.0) < 1e-12);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gradients),
		cmocka_unit_test(test_direction),
		cmocka_unit_test(test_start_canceled),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_optimizer_kernels),
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_curves),
		cmocka_unit_test(test_schedules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
