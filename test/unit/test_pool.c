/*
 * test_pool.c: every task runs exactly once, whatever the number of threads; jobs follow each
 * other closely or after the workers have gone to sleep; failures to start are reported.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool.h"

enum
{
	MAX_TASKS = 5000
};

typedef struct job
{
	uint32_t	hits[MAX_TASKS];	/* plain: each task writes only its own */
	uint32_t	n_threads;
	atomic_uint bad;
} job;

static void
count_task(void *arg, uint32_t task, uint32_t thread)
{
	job		   *j = arg;

	if (thread >= j->n_threads)
		atomic_fetch_add(&j->bad, 1);
	j->hits[task]++;
}

static void
run_and_check(g2_pool *pool, job *j, uint32_t n_tasks)
{
	memset(j->hits, 0, sizeof j->hits);
	g2_pool_run(pool, n_tasks, count_task, j);
	for (uint32_t i = 0; i < MAX_TASKS; i++)
		assert_int_equal(j->hits[i], i < n_tasks);
	assert_int_equal(atomic_load(&j->bad), 0);
}

static void
test_every_task_once(void **state)
{
	static job	j;

	(void) state;
	for (uint32_t threads = 1; threads <= 5; threads++)
	{
		g2_pool    *pool;

		assert_true(g2_pool_open(threads, 0, &pool, NULL));
		assert_int_equal(g2_pool_threads(pool), threads);
		j.n_threads = threads;
		for (uint32_t n = 0; n < 40; n++)
			run_and_check(pool, &j, n);
		run_and_check(pool, &j, MAX_TASKS);
		g2_pool_close(pool);
	}
}

static void
small_task(void *arg, uint32_t task, uint32_t thread)
{
	(void) thread;
	((uint32_t *) arg)[task] += task + 1;
}

/* Many short jobs back to back, then with pauses in which the workers fall asleep. */
static void
test_many_jobs(void **state)
{
	g2_pool    *pool;
	uint32_t	sums[7] = {0};

	(void) state;
	assert_true(g2_pool_open(3, 0, &pool, NULL));
	for (int i = 0; i < 20000; i++)
		g2_pool_run(pool, 2 + (uint32_t) i % 6, small_task, sums);
	assert_int_equal(sums[0], 20000);
	assert_int_equal(sums[1], 40000);
	memset(sums, 0, sizeof sums);
	for (int i = 0; i < 60; i++)
	{
		nanosleep(&(struct timespec) {0, 1000000}, NULL);
		g2_pool_run(pool, 7, small_task, sums);
	}
	for (uint32_t i = 0; i < 7; i++)
		assert_int_equal(sums[i], 60 * (i + 1));
	g2_pool_close(pool);
}

/* A slow task on a worker: run waits for it, and the caller sleeps meanwhile. */
static void
slow_task(void *arg, uint32_t task, uint32_t thread)
{
	(void) thread;
	nanosleep(&(struct timespec) {0, task == 0 ? 1000000 : 20000000}, NULL);
	atomic_fetch_add((atomic_uint *) arg, 1);
}

static void
test_slow_task(void **state)
{
	g2_pool    *pool;
	atomic_uint n = 0;

	(void) state;
	assert_true(g2_pool_open(2, 0, &pool, NULL));
	for (int i = 0; i < 5; i++)
		g2_pool_run(pool, 2, slow_task, &n);
	assert_int_equal(atomic_load(&n), 10);
	g2_pool_close(pool);
}

/* Idle workers use no processor time. */
static void
test_idle(void **state)
{
	g2_pool    *pool;
	uint32_t	sums[4] = {0};
	clock_t		before;

	(void) state;
	assert_true(g2_pool_open(4, 0, &pool, NULL));
	g2_pool_run(pool, 4, small_task, sums);
	nanosleep(&(struct timespec) {0, 50000000}, NULL);
	before = clock();
	nanosleep(&(struct timespec) {0, 200000000}, NULL);
	assert_true((double) (clock() - before) / CLOCKS_PER_SEC < 0.02);
	g2_pool_close(pool);
}

static void
signal_task(void *arg, uint32_t task, uint32_t thread)
{
	sigset_t	set;

	(void) task;
	nanosleep(&(struct timespec) {0, 2000000}, NULL);
	if (thread == 0)
		return;
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	if (!sigismember(&set, SIGTERM) || !sigismember(&set, SIGINT) || !sigismember(&set, SIGUSR1))
		atomic_fetch_add((atomic_uint *) arg, 1);
}

static void
test_signals_blocked(void **state)
{
	g2_pool    *pool;
	atomic_uint bad = 0;
	sigset_t	set;

	(void) state;
	assert_true(g2_pool_open(3, 0, &pool, NULL));
	g2_pool_run(pool, 12, signal_task, &bad);
	assert_int_equal(atomic_load(&bad), 0);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	assert_false(sigismember(&set, SIGTERM));
	g2_pool_close(pool);
}

static void
test_open_fails(void **state)
{
	g2_pool    *pool;
	g2_error	err;

	(void) state;
	for (long n = 1; n <= 3; n++)
	{
		memset(&err, 0, sizeof err);
		g2_alloc_fail_at(n);
		assert_false(g2_pool_open(2, 0, &pool, &err));
		g2_alloc_fail_at(0);
		assert_int_equal(err.code, G2_E_MEMORY);
	}
	assert_false(g2_pool_open(0, 0, &pool, &err));
	assert_int_equal(err.code, G2_E_INTERNAL);
	g2_pool_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_task_once),
		cmocka_unit_test(test_many_jobs),
		cmocka_unit_test(test_slow_task),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_signals_blocked),
		cmocka_unit_test(test_open_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
