/*
 * test_vectors_decoding.c: decoding options and beam search against generate() of Hugging Face
 * transformers in float32 (the vectors decoding.vec): tokens, scores, log-probabilities.
 *
 * Groups go through the scheduler to the CPU back end: one at a time, all at once, and with so few
 * blocks that they are preempted; with every number of rows a step.
 */
#include "vector_models.h"

#include "beams.h"
#include "scheduler.h"

#define MOST_CASES 64
#define MOST_ANSWERS 16
#define MOST_BIASES 8

typedef struct answer_case
{
	uint32_t	number;
	g2_group_options options;
	g2_bias		biases[MOST_BIASES];
	uint32_t	n_prompt;
	uint32_t   *prompt;
	uint32_t	n_answers;
	double		score[MOST_ANSWERS];
	double		logprob[MOST_ANSWERS];
	uint32_t	n_ids[MOST_ANSWERS];
	uint32_t   *ids[MOST_ANSWERS];
} answer_case;

static reader file;
static vec_model shape;
static answer_case cases[MOST_CASES];
static uint32_t n_cases,
			n_ended,
			n_preempted;		/* beam searches */

/* ---- the file ---- */

static void
read_decoding_case(answer_case *c)
{
	g2_group_options *o = &c->options;
	double		end;

	c->number = need_uint(&file);
	o->max_new = (uint32_t) need_key(&file, "max_new");
	o->sampling = (g2_sampling) {.top_p = 1, .biases = c->biases, .spared = G2_TOKEN_NONE};
	o->sampling.repetition_penalty = (float) need_key(&file, "repetition_penalty");
	o->sampling.presence_penalty = (float) need_key(&file, "presence_penalty");
	o->sampling.frequency_penalty = (float) need_key(&file, "frequency_penalty");
	o->no_repeat_ngram = (uint32_t) need_key(&file, "no_repeat_ngram_size");
	o->sampling.min_new = (uint32_t) need_key(&file, "min_new_tokens");
	o->n = (uint32_t) need_key(&file, "num_beams");
	o->length_penalty = need_key(&file, "length_penalty");
	end = need_key(&file, "end");
	o->end_token = end < 0 ? G2_NO_TOKEN : (uint32_t) end;
	o->logprobs = true;
	expect(&file, "bias");
	o->sampling.n_biases = need_uint(&file);
	assert_true(o->sampling.n_biases <= MOST_BIASES);
	for (uint32_t i = 0; i < o->sampling.n_biases; i++)
	{
		c->biases[i].token = need_uint(&file);
		c->biases[i].bias = (float) need_number(&file);
	}
	expect(&file, "ids");
	c->prompt = need_ids(&file, &c->n_prompt);
	expect(&file, "answers");
	c->n_answers = need_uint(&file);
	assert_true(c->n_answers >= 1 && c->n_answers <= MOST_ANSWERS);
	for (uint32_t i = 0; i < c->n_answers; i++)
	{
		c->score[i] = need_key(&file, "score");
		c->logprob[i] = need_key(&file, "logprob");
		expect(&file, "ids");
		c->ids[i] = need_ids(&file, &c->n_ids[i]);
	}
	if (o->n > 1)
		o->n_best = c->n_answers;
}

static int
read_file(void **state)
{
	read_shape("decoding", &file, &shape);
	for (char *word; (word = next_word(&file)); n_cases++)
	{
		assert_true(n_cases < MOST_CASES);
		assert_string_equal(word, "case");
		read_decoding_case(&cases[n_cases]);
	}
	assert_true(n_cases >= 28);
	return make_work(state);
}

static int
drop_file(void **state)
{
	for (uint32_t i = 0; i < n_cases; i++)
	{
		free(cases[i].prompt);
		for (uint32_t a = 0; a < cases[i].n_answers; a++)
			free(cases[i].ids[a]);
	}
	free(file.data);
	return remove_work(state);
}

/* ---- answers ---- */

static void
near(const answer_case *c, const char *what, double got, double want)
{
	if (!(fabs(got - want) <= TOLERANCE * fmax(1, fabs(want))))
		fail_msg("case %u: %s is %.9g, not %.9g", c->number, what, got, want);
}

static void
case_done(g2_group *group, const g2_error *error)
{
	const answer_case *c = group->o.user;
	const g2_sequence *got = group->beams ? group->beams->ended : group->sequences;

	if (error)
		fail_msg("case %u: %s", c->number, error->message);
	for (uint32_t i = 0; i < c->n_answers; i++)
	{
		if (got[i].ids.len != c->n_ids[i] ||
			memcmp(got[i].ids.data, c->ids[i], c->n_ids[i] * sizeof(uint32_t)) != 0)
			fail_msg("case %u: answer %u has other tokens", c->number, i);
		near(c, "a log-probability", got[i].logprob, c->logprob[i]);
		if (group->beams)
			near(c, "a score", got[i].score, c->score[i]);
		assert_int_equal(got[i].finish, c->ids[i][c->n_ids[i] - 1] == c->options.end_token ?
						 G2_FINISH_EOS : G2_FINISH_LENGTH);
	}
	if (group->beams)
		assert_int_equal(g2_group_made(group) % c->options.n, 0);
	n_preempted += group->beams && group->preemptions > 0;
	n_ended++;
	g2_group_free(group);
}

typedef struct decoder_engine
{
	device		device;
	g2_kv_pool	pool;
	g2_kv		kv;
	g2_work		work;
	g2_people	people;
	g2_session *session;
	g2_scheduler *scheduler;
} decoder_engine;

static void
open_decoder(decoder_engine *e, const g2_pack *pack, uint32_t threads, uint32_t n_blocks)
{
	g2_error	err;

	memset(e, 0, sizeof *e);
	assert_true(device_open(&e->device, "auto", threads));
	EXPECT_OK(g2_cpu_backend.model_load(e->device.backend, &pack->weights, &e->device.model,
										&err), err);
	EXPECT_OK(g2_kv_open(&e->kv, &e->pool, &g2_cpu_backend, e->device.model, n_blocks, &err),
			  err);
	g2_people_init(&e->people);
	assert_true(g2_session_open(&e->people, 1, 1, 10, &e->session, &err));
	EXPECT_OK(g2_scheduler_open(&g2_cpu_backend, e->device.backend, e->device.fd, &e->people,
								&e->scheduler, &err), err);
}

static void
close_decoder(decoder_engine *e)
{
	assert_int_equal(e->kv.n_held, 0);
	g2_scheduler_close(e->scheduler);
	g2_session_close(e->session);
	g2_people_close(&e->people);
	g2_kv_close(&e->kv);
	device_unload(&e->device);
	device_close(&e->device);
}

static void
add_case(decoder_engine *e, const answer_case *c, bool use_cache)
{
	g2_group_options o = c->options;
	g2_ids		prompt = {0};
	g2_group   *group;
	g2_error	err;

	o.session = e->session;
	o.kv = &e->kv;
	o.work = &e->work;
	o.model = e->device.model;
	o.n_vocab = shape.options.n_vocab;
	o.use_cache = use_cache;
	o.done = case_done;
	o.user = (void *) (uintptr_t) c;
	for (uint32_t i = 0; i < c->n_prompt; i++)
		assert_true(g2_ids_push(&prompt, c->prompt[i]));
	EXPECT_OK(g2_group_new(&o, &prompt, &group, &err), err);
	EXPECT_OK(g2_scheduler_add(e->scheduler, group, &err), err);
}

static void
run_decoder(decoder_engine *e, uint32_t n)
{
	struct pollfd p = {.fd = e->device.fd, .events = POLLIN};

	for (n_ended = 0; g2_scheduler_run(e->scheduler), n_ended < n;)
	{
		uint64_t	count;

		if (poll(&p, 1, TIMEOUT_MS) <= 0)
			fail_msg("no word from the device after %d s", TIMEOUT_MS / 1000);
		if (read(e->device.fd, &count, sizeof count) < 0)
			assert_int_equal(errno, EAGAIN);
	}
}

static void
test_decoding(void **state)
{
	static const uint32_t step_tokens[] = {0, 16, 64};
	g2_pack    *pack = make_model(&shape);
	decoder_engine e;

	(void) state;
	/* One after the other. */
	open_decoder(&e, pack, 1, 200);
	for (uint32_t i = 0; i < n_cases; i++)
	{
		add_case(&e, &cases[i], i % 2);
		run_decoder(&e, 1);
	}
	close_decoder(&e);
	/* All at once, with room and without. */
	for (uint32_t round = 0; round < 6; round++)
	{
		n_preempted = 0;
		open_decoder(&e, pack, 1 + round % 3, round < 3 ? 600 : 30);
		g2_scheduler_set_step_tokens(e.scheduler, step_tokens[round % 3]);
		for (uint32_t i = 0; i < n_cases; i++)
			add_case(&e, &cases[i], round % 2);
		run_decoder(&e, n_cases);
		assert_true(round < 3 || n_preempted > 0);
		close_decoder(&e);
	}
	drop_model(&shape, pack);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decoding),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("vectors of decoding options", tests, read_file, drop_file);
}
