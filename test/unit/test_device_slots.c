/*
 * test_device_slots.c: more texts at once than a CPU has slots for, on the emulated CUDA device,
 * through the scheduler; as many on the CPU beside them, with the same bits.
 */
#include "pack_fixture.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "devices.h"
#include "scheduler.h"

#define N_SLOTS 320
#define N_TEXTS 3				/* of a group */
#define N_GROUPS (N_SLOTS / N_TEXTS)
#define MOST_NEW 8
#define TIMEOUT_MS 120000

static const g2_synth_options wide_model = {
	.n_layer = 1, .n_embd = 128, .n_head = 2, .n_ff = 64, .n_ctx = 64, .n_vocab = 257,
	.sigma = 0.5, .seed = 7,
};

/* What came of one text. */
typedef struct text
{
	uint32_t	n;
	uint32_t	ids[MOST_NEW];
	double		logprob;
} text;

typedef struct place
{
	const char *device;
	g2_backend_model *model;
	g2_kv		kv;
	g2_work		work;
	text		texts[N_GROUPS][N_TEXTS];
} place;

static const g2_backend_api *const api = &g2_devices_backend;
static uint32_t n_ended;

static void
take(g2_group *group, const g2_error *error)
{
	text	   *to = group->o.user;

	if (error)
		fail_msg("%s", error->message);
	for (uint32_t i = 0; i < N_TEXTS; i++)
	{
		const g2_sequence *sequence = &group->sequences[i];

		assert_true(sequence->ids.len <= MOST_NEW);
		to[i].n = (uint32_t) sequence->ids.len;
		memcpy(to[i].ids, sequence->ids.data, sequence->ids.len * sizeof *to[i].ids);
		to[i].logprob = sequence->logprob;
	}
	g2_group_free(group);
	n_ended++;
}

static void
load(place *p, g2_backend *backend, g2_kv_pool *pool, const g2_pack *pack)
{
	g2_error	err = {0};

	api->place(backend, p->device);
	EXPECT_OK(api->model_load(backend, &pack->weights, &p->model, &err), err);
	EXPECT_OK(api->model_fill(p->model, &pack->weights, &err), err);
	assert_string_equal(api->device(p->model), p->device);
	EXPECT_OK(g2_kv_open(&p->kv, pool, api, p->model, 5 * N_SLOTS, &err), err);
}

/* Texts of all lengths, every third sampled in its own way. */
static void
add(place *p, g2_scheduler *scheduler, g2_session *session, uint32_t i)
{
	const g2_group_options o = {
		.sampling = {
			.temperature = i % 4 ? 1 : 0, .top_p = i % 3 ? 1 : 0.8f, .seed = i,
			.repetition_penalty = i % 3 == 1 ? 1.2f : 1, .frequency_penalty = i % 3 == 2,
			.spared = G2_TOKEN_NONE,
		},
		.n = N_TEXTS, .max_new = 1 + i % MOST_NEW, .end_token = 256, .logprobs = true,
		.session = session, .kv = &p->kv, .work = &p->work, .model = p->model,
		.n_vocab = wide_model.n_vocab, .done = take, .user = p->texts[i],
	};
	g2_ids		prompt = {0};
	g2_group   *group;
	g2_error	err;

	for (uint32_t t = 0; t <= i % 40; t++)
		assert_true(g2_ids_push(&prompt, (i * 31 + t * 7) % 256));
	EXPECT_OK(g2_group_new(&o, &prompt, &group, &err), err);
	EXPECT_OK(g2_scheduler_add(scheduler, group, &err), err);
}

static void
run_all(g2_scheduler *scheduler, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (g2_scheduler_run(scheduler); n_ended < 2 * N_GROUPS; g2_scheduler_run(scheduler))
	{
		uint64_t	count;

		assert_int_equal(poll(&p, 1, TIMEOUT_MS), 1);
		assert_int_equal(read(fd, &count, sizeof count), (ssize_t) sizeof count);
	}
}

static void
test_many(void **state)
{
	static place places[2] = {{.device = "cpu"}, {.device = "cuda"}};
	const g2_backend_options options = {
		.threads = 1, .slots = N_SLOTS, .isa = "auto", .devices = "cuda", .device_memory = 128 << 20,
	};
	g2_kv_pool	pool = {.budget = 1 << 30};
	g2_people	people;
	g2_session *session;
	g2_scheduler *scheduler;
	g2_backend *backend;
	g2_pack    *pack;
	int			fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g2_error	err = {0};

	(void) state;
	fixture_synth(&fx, "wide", &wide_model);
	pack = open_as("wide", G2_FORMAT_F32);	/* has the same bits on both */
	EXPECT_OK(api->open(&options, fd, &backend, &err), err);
	for (size_t p = 0; p < G2_LENGTH(places); p++)
	{
		assert_int_equal(api->slots(backend, (uint32_t) p), N_SLOTS);
		load(&places[p], backend, &pool, pack);
	}
	g2_people_init(&people);
	assert_true(g2_session_open(&people, 1, 1, 10, &session, &err));
	EXPECT_OK(g2_scheduler_open(api, backend, fd, &people, &scheduler, &err), err);
	for (uint32_t i = 0; i < N_GROUPS; i++)
		for (size_t p = 0; p < G2_LENGTH(places); p++)
			add(&places[p], scheduler, session, i);
	g2_scheduler_run(scheduler);
	assert_int_equal(g2_scheduler_live(scheduler), 2 * N_GROUPS * N_TEXTS);
	run_all(scheduler, fd);
	for (uint32_t i = 0; i < N_GROUPS; i++)
	{
		assert_true(places[0].texts[i][N_TEXTS - 1].n > 0);
		assert_memory_equal(places[0].texts[i], places[1].texts[i], sizeof places[0].texts[i]);
	}
	assert_int_equal(places[0].work.preemptions + places[1].work.preemptions, 0);

	g2_scheduler_close(scheduler);
	g2_session_close(session);
	g2_people_close(&people);
	for (size_t p = 0; p < G2_LENGTH(places); p++)
	{
		g2_kv_close(&places[p].kv);
		api->model_unload(backend, places[p].model);
	}
	api->close(backend);
	g2_pack_close(pack);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
