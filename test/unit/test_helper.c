/*
 * test_helper.c: jobs run once, are done once and on the caller's thread, whatever the moment at
 * which the helper closes.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "helper.h"

typedef struct counted
{
	g2_job		job;			/* first */
	atomic_int	runs;
	int			dones;
	pthread_t	done_by;
	atomic_bool *hold;			/* run waits until it is true; NULL = no */
	uint32_t	number;
	atomic_uint *starts;		/* counts starts; its value goes to start */
	uint32_t	start;
} counted;

static void
count_run(g2_job *job)
{
	counted    *c = (counted *) job;

	if (c->starts)
		c->start = atomic_fetch_add(c->starts, 1);
	for (int i = 0; c->hold && !atomic_load(c->hold) && i < 20000; i++)
		poll(NULL, 0, 1);
	atomic_fetch_add(&c->runs, 1);
}

static void
count_done(g2_job *job)
{
	counted    *c = (counted *) job;

	c->dones++;
	c->done_by = pthread_self();
}

static void
init(counted *c, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		c[i] = (counted) {.job = {.run = count_run, .done = count_done}, .number = i};
}

static g2_helper *
open_helper(uint32_t threads, int *fd)
{
	g2_helper  *helper;
	g2_error	err;

	*fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_true(g2_helper_open(threads, *fd, &helper, &err));
	return helper;
}

static void
wait_event(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t	count;

	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(read(fd, &count, sizeof count), sizeof count);
}

static void
test_many(void **state)
{
	enum {N = 5000};
	counted    *c = calloc(N, sizeof *c);
	int			fd;
	g2_helper  *helper = open_helper(3, &fd);
	uint32_t	done = 0;

	(void) state;
	assert_non_null(c);
	init(c, N);
	for (uint32_t i = 0; i < N; i++)
		g2_helper_submit(helper, &c[i].job);
	while (done < N)
	{
		wait_event(fd);
		g2_helper_collect(helper);
		done = 0;
		for (uint32_t i = 0; i < N; i++)
			done += (uint32_t) c[i].dones;
	}
	g2_helper_close(helper);
	for (uint32_t i = 0; i < N; i++)
	{
		assert_int_equal(c[i].runs, 1);
		assert_int_equal(c[i].dones, 1);
		assert_true(pthread_equal(c[i].done_by, pthread_self()));
	}
	close(fd);
	free(c);
}

static void
test_order(void **state)
{
	enum {N = 500};
	counted		c[N];
	atomic_uint starts = 0;
	int			fd;
	g2_helper  *helper = open_helper(1, &fd);

	(void) state;
	init(c, N);
	for (uint32_t i = 0; i < N; i++)
	{
		c[i].starts = &starts;
		g2_helper_submit(helper, &c[i].job);
	}
	while (!c[N - 1].dones)
	{
		wait_event(fd);
		g2_helper_collect(helper);
	}
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(c[i].start, i);
	g2_helper_close(helper);
	close(fd);
}

/* Jobs that have not started are done but not run; the one that runs is waited for. */
static void
test_close_queued(void **state)
{
	enum {N = 100};

	(void) state;
	for (int round = 0; round < 20; round++)
	{
		counted		c[N];
		atomic_uint starts = 0;
		int			fd;
		g2_helper  *helper = open_helper(2, &fd);
		uint32_t	run = 0;

		init(c, N);
		for (uint32_t i = 0; i < N; i++)
		{
			c[i].starts = &starts;
			g2_helper_submit(helper, &c[i].job);
		}
		for (int i = 0; i < round; i++)
			g2_helper_collect(helper);
		g2_helper_close(helper);
		for (uint32_t i = 0; i < N; i++)
		{
			assert_int_equal(c[i].dones, 1);
			assert_true(c[i].runs <= 1);
			run += (uint32_t) c[i].runs;
		}
		assert_int_equal(run, starts);
		close(fd);
	}
}

static void
test_close_running(void **state)
{
	counted		c[4];
	atomic_bool go = false;
	atomic_uint starts = 0;
	int			fd;
	g2_helper  *helper = open_helper(2, &fd);

	(void) state;
	init(c, 4);
	for (uint32_t i = 0; i < 4; i++)
	{
		c[i].hold = &go;
		c[i].starts = &starts;
		g2_helper_submit(helper, &c[i].job);
	}
	while (atomic_load(&starts) < 2)
		poll(NULL, 0, 1);
	g2_helper_collect(helper);
	assert_int_equal(c[0].dones + c[1].dones + c[2].dones + c[3].dones, 0);
	atomic_store(&go, true);
	g2_helper_close(helper);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(c[i].dones, 1);
	close(fd);
}

/* A done function may submit the next job. */
static void
chain_done(g2_job *job)
{
	counted    *c = (counted *) job;

	c->dones++;
	if (c->number > 0)
		g2_helper_submit((g2_helper *) (void *) c->hold, &(c - 1)->job);
}

static void
no_hold_run(g2_job *job)
{
	atomic_fetch_add(&((counted *) job)->runs, 1);
}

static void
test_chain(void **state)
{
	counted		c[50];
	int			fd;
	g2_helper  *helper = open_helper(2, &fd);

	(void) state;
	init(c, 50);
	for (uint32_t i = 0; i < 50; i++)
	{
		c[i].job.run = no_hold_run;
		c[i].job.done = chain_done;
		c[i].hold = (atomic_bool *) (void *) helper;
	}
	g2_helper_submit(helper, &c[49].job);
	while (!c[0].dones)
	{
		wait_event(fd);
		g2_helper_collect(helper);
	}
	g2_helper_close(helper);
	close(fd);
}

static void
test_no_memory(void **state)
{
	g2_helper  *helper;
	g2_error	err;

	(void) state;
	g2_alloc_fail_at(1);
	assert_false(g2_helper_open(2, -1, &helper, &err));
	g2_alloc_fail_at(0);
	assert_int_equal(err.code, G2_E_MEMORY);
	g2_helper_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many), cmocka_unit_test(test_order),
		cmocka_unit_test(test_close_queued), cmocka_unit_test(test_close_running),
		cmocka_unit_test(test_chain), cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
