/*
 * registry_fixture.h: a registry on the CPU back end, driven by the test's own thread, and what it
 * has said: loads that ended, lines for the log.
 */
#ifndef REGISTRY_FIXTURE_H
#define REGISTRY_FIXTURE_H

#include <sys/eventfd.h>

#include "engine_fixture.h"

#include "registry.h"

#define N_WARM 40				/* prompt tokens: more than one KV block */

static g2_backend *backend;
static g2_registry *registry;
static int	device_fd,
			helper_fd;
static bool permitted = true;	/* to whoever waits for a model */
static uint32_t n_asked,
			n_loaded,
			n_failed;
static char log_lines[8192];
static g2_error last_error;

static UNUSED void
on_loaded(void *arg, g2_model *model)
{
	assert_ptr_equal(arg, &registry);
	assert_true(model->users > 0);
	if (model->state == G2_MODEL_LOADED)
		n_loaded++;
	else
	{
		assert_int_equal(model->state, G2_MODEL_FAILED);
		last_error = model->error;
		n_failed++;
	}
}

/* Some of these tests wait for models that are for some roles only. */
static UNUSED bool
on_permits(void *arg, g2_model *model)
{
	assert_ptr_equal(arg, &registry);
	assert_true(model->roles.restricted && model->roles.token != 0);
	n_asked++;
	return permitted;
}

static UNUSED void
on_line(void *arg, g2_level level, const char *message)
{
	size_t		len = strlen(log_lines);

	assert_ptr_equal(arg, &registry);
	snprintf(log_lines + len, sizeof log_lines - len, "%d %s\n", (int) level, message);
}

static UNUSED uint32_t
count_lines(const char *part)
{
	uint32_t	n = 0;

	for (const char *at = log_lines; (at = strstr(at, part)) != NULL; at++)
		n++;
	return n;
}

static UNUSED void
forget_lines(void)
{
	n_asked = n_loaded = n_failed = 0;
	log_lines[0] = '\0';
}

static UNUSED bool
try_open(g2_error *err)
{
	static g2_kv_pool kv_pool;
	const g2_registry_options options = {
		.api = &g2_cpu_backend, .backend = backend, .kv_pool = &kv_pool, .event_fd = helper_fd,
		.permits = on_permits, .loaded = on_loaded, .arg = &registry, .log = on_line,
	};

	kv_pool = (g2_kv_pool) {.budget = 1 << 20};
	return g2_registry_open(&options, &registry, err);
}

static UNUSED void
open_registry(const g2_settings *s)
{
	const g2_backend_options options = {.threads = 2, .slots = 4, .isa = "auto"};
	g2_error	err;

	forget_lines();
	device_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	helper_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(device_fd >= 0 && helper_fd >= 0);
	EXPECT_OK(g2_cpu_backend.open(&options, device_fd, &backend, &err), err);
	EXPECT_OK(try_open(&err), err);
	EXPECT_OK(g2_registry_configure(registry, s, &err), err);
}

static UNUSED void
close_registry(void)
{
	g2_registry_close(registry);
	g2_cpu_backend.close(backend);
	close(device_fd);
	close(helper_fd);
}

static UNUSED void
preload(g2_settings *s, const char *const *names, uint32_t n)
{
	s->n_preload = n;
	for (uint32_t i = 0; i < n; i++)
		s->preload[i] = g2_span_of(names[i]);
}

/* ---- models ---- */

static UNUSED g2_model *
find_model(const char *name)
{
	for (g2_model *m = g2_registry_models(registry); m; m = m->next)
		if (!m->detached && strcmp(m->name, name) == 0)
			return m;
	return NULL;
}

static UNUSED uint32_t
count_models(void)
{
	uint32_t	n = 0;

	for (const g2_model *m = g2_registry_models(registry); m; m = m->next)
		n++;
	return n;
}

/* Until no model is loading. */
static UNUSED void
settle(void)
{
	int64_t		start = g2_now_us();
	bool		loading = true;

	while (loading)
	{
		struct pollfd ready = {.fd = helper_fd, .events = POLLIN};
		uint64_t	count;

		loading = false;
		for (const g2_model *m = g2_registry_models(registry); m; m = m->next)
			loading |= m->state == G2_MODEL_LOADING;
		if (!loading)
			break;
		poll(&ready, 1, 1000);
		if (read(helper_fd, &count, sizeof count) > 0)
			g2_registry_collect(registry);
		if (g2_now_us() - start > HANG_US)
			fail_msg("a load hangs");
	}
}

static UNUSED g2_model *
hold(const char *name)
{
	g2_model   *model = NULL;
	g2_error	err;

	EXPECT_OK(g2_registry_hold(registry, g2_span_of(name), g2_span_of(""), NULL, &model, &err), err);
	return model;
}

/* Loads the model if need be; nobody holds it afterwards. */
static UNUSED void
use_model(const char *name)
{
	g2_model   *model = hold(name);

	settle();
	assert_int_equal(model->state, G2_MODEL_LOADED);
	g2_registry_release(model);
}

/* The last look at its files was long ago. */
static UNUSED void
age(g2_model *model)
{
	model->looked_at -= 2 * G2_LOOK_US;
}

/* ---- folders ---- */

/* Puts a new folder, with other weights, in the place of the model's. */
static UNUSED void
replace_folder(const char *name, uint64_t seed)
{
	static uint32_t n;
	g2_synth_options options = tiny_model;
	char		gone[32];

	options.seed = seed;
	fixture_synth(&places, "fresh", &options);
	fixture_tokenizer(fixture_folder(&places, "fresh"));
	snprintf(gone, sizeof gone, "gone%u", n++);
	assert_int_equal(rename(fixture_folder(&places, name), tb_path(places.root, gone)), 0);
	assert_int_equal(rename(fixture_folder(&places, "fresh"), fixture_folder(&places, name)), 0);
}

/* ---- one sequence, as the scheduler would run it ---- */

typedef struct runner
{
	uint32_t	n;				/* positions in the cache */
	uint32_t	next;			/* token */
	uint32_t	n_steps;
	uint32_t	bits[64];		/* of each step's logits, a hash */
} runner;

static UNUSED void
run_rows(g2_model *model, runner *r, const uint32_t *tokens, uint32_t n)
{
	static const uint32_t blocks[] = {2, 0, 1, 3};
	static float logits[1024];
	uint32_t	position[N_WARM];
	const uint32_t n_vocab = model->pack->weights.arch.n_vocab;
	g2_plan_sequence sequence = {.slot = G2_TOKEN_NONE, .n_rows = n, .blocks = blocks};
	g2_output	output = {.row = n - 1, .slot = G2_TOKEN_NONE, .want = G2_WANT_LOGITS};
	g2_plan		plan = {
		.model = model->device_model, .n_steps = 1, .n_rows = n, .token = tokens,
		.position = position, .n_sequences = 1, .sequences = &sequence, .n_outputs = 1,
		.outputs = &output,
	};
	g2_result	result = {.logits = logits};
	struct pollfd ready = {.fd = device_fd, .events = POLLIN};
	bool		failed = false;
	uint64_t	count;
	g2_error	err;

	for (uint32_t i = 0; i < n; i++)
		position[i] = r->n++;
	EXPECT_OK(g2_cpu_backend.step_submit(backend, &plan, &result, &err), err);
	assert_int_equal(poll(&ready, 1, 60000), 1);
	assert_true(read(device_fd, &count, sizeof count) > 0);
	assert_ptr_equal(g2_cpu_backend.step_result(backend, &failed, &err), &result);
	assert_false(failed);
	r->next = 0;
	for (uint32_t i = 1; i < n_vocab; i++)
		if (logits[i] > logits[r->next])
			r->next = i;
	for (uint32_t i = 0; i < n_vocab; i++)
	{
		uint32_t	word;

		memcpy(&word, &logits[i], sizeof word);
		r->bits[r->n_steps] = (r->bits[r->n_steps] ^ word) * 16777619u;
	}
	r->n_steps++;
}

static UNUSED void
run_prompt(g2_model *model, runner *r)
{
	uint32_t	tokens[N_WARM];

	memset(r, 0, sizeof *r);
	for (uint32_t i = 0; i < N_WARM; i++)
		tokens[i] = (i * 37 + 11) % 250;
	run_rows(model, r, tokens, N_WARM);
}

static UNUSED void
run_tokens(g2_model *model, runner *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		run_rows(model, r, &(uint32_t) {r->next}, 1);
}

static UNUSED int
set_up(void **state)
{
	(void) state;
	make_models();
	return 0;
}

static UNUSED int
tear_down(void **state)
{
	(void) state;
	g2_alloc_fail_at(0);
	fixture_close(&places);
	return 0;
}

#endif							/* REGISTRY_FIXTURE_H */
