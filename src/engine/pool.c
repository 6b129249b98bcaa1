/*
 * pool.c: the compute threads of the CPU back end.
 *
 * One job at a time.  run() writes the job's function and argument, then publishes `ticket`, one
 * 64-bit word that holds the number of tasks (high half) and the next task (low half).  A thread
 * claims a task by adding 1 to it, so a claim tells in one step which task it is and whether it
 * exists: a worker that wakes up late finds either no task or one of the job that runs now, never
 * one of a job that has ended.  So run() waits for tasks, not for threads.
 *
 * Ownership: fn and arg are written by the caller of run() while no task is claimed, and read by
 * workers after a claim.  `done` counts ended tasks; the job is over when it reaches n_tasks.
 *
 * Sleeping: workers wait for `generation` to change, the caller for `done`; both spin for some
 * microseconds (the gap between two products of a forward pass), then sleep on a futex.  The
 * counters `sleepers` and `caller_sleeps` save the system call when nobody sleeps; each is raised
 * before the last look at the word slept on, and read after that word was changed (seq_cst).
 */
#include "pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPIN_ROUNDS 1500		/* pauses: 20 .. 60 us on current x86 */
#define CACHE_LINE 64

/* Fields that different threads write stand on different cache lines. */
struct g2_pool
{
	uint32_t	n_threads;		/* the caller of run included */
	uint32_t	n_started;		/* workers to join */
	uint32_t	nice;			/* of the workers */
	pthread_t  *workers;		/* [n_threads - 1] */
	struct worker *worker_args;
	g2_pool_fn	fn;
	void	   *arg;
	atomic_bool quit;
	char		pad0[CACHE_LINE];
	_Atomic uint64_t ticket;	/* n_tasks << 32 | next task */
	char		pad1[CACHE_LINE];
	_Atomic uint32_t generation;	/* futex word of the workers */
	_Atomic uint32_t sleepers;
	char		pad2[CACHE_LINE];
	_Atomic uint32_t done;		/* futex word of the caller */
	_Atomic uint32_t caller_sleeps;
	char		pad3[CACHE_LINE];
};

struct worker
{
	g2_pool    *pool;
	uint32_t	thread;
};

static void
futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, (uint32_t *) word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void
futex_wake(_Atomic uint32_t *word, uint32_t n)
{
	syscall(SYS_futex, (uint32_t *) word, FUTEX_WAKE_PRIVATE, G2_MIN(n, (uint32_t) INT_MAX), NULL,
			NULL, 0);
}

static inline void
spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#endif
}

/* Claims and runs tasks until none is left. */
static void
work(g2_pool *pool, uint32_t thread)
{
	for (;;)
	{
		uint64_t	claim;
		uint32_t	n_tasks;

		/* A look first: threads that find nothing do not pull the line away from the others. */
		claim = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
		if ((uint32_t) claim >= claim >> 32)
			return;
		claim = atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_acq_rel);
		n_tasks = (uint32_t) (claim >> 32);
		if ((uint32_t) claim >= n_tasks)
			return;
		pool->fn(pool->arg, (uint32_t) claim, thread);
		if (atomic_fetch_add(&pool->done, 1) + 1 == n_tasks && atomic_load(&pool->caller_sleeps))
			futex_wake(&pool->done, 1);
	}
}

/* Returns when the generation is no longer `seen`. */
static void
wait_for_job(g2_pool *pool, uint32_t seen)
{
	for (int i = 0; i < SPIN_ROUNDS; i++)
	{
		if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen)
			return;
		spin_pause();
	}
	atomic_fetch_add(&pool->sleepers, 1);
	while (atomic_load(&pool->generation) == seen)
		futex_wait(&pool->generation, seen);
	atomic_fetch_sub(&pool->sleepers, 1);
}

void
g2_pool_be_nice(uint32_t nice)
{
	/* Linux: 0 is the calling thread, not the process. */
	if (nice > 0)
		setpriority(PRIO_PROCESS, 0, (int) nice);
}

static void *
worker_main(void *p)
{
	struct worker *w = p;
	g2_pool    *pool = w->pool;

	g2_pool_be_nice(pool->nice);
	for (;;)
	{
		uint32_t	seen = atomic_load_explicit(&pool->generation, memory_order_acquire);

		if (atomic_load(&pool->quit))
			return NULL;
		work(pool, w->thread);
		wait_for_job(pool, seen);
	}
}

static void
announce(g2_pool *pool, uint32_t n_wanted)
{
	uint32_t	sleepers;

	atomic_fetch_add(&pool->generation, 1);
	sleepers = atomic_load(&pool->sleepers);
	if (sleepers > 0)
		futex_wake(&pool->generation, G2_MIN(sleepers, n_wanted));
}

static void
start_workers(g2_pool *pool)
{
	sigset_t	all,
				old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (pool->n_started < pool->n_threads - 1)
	{
		struct worker *w = &pool->worker_args[pool->n_started];

		w->pool = pool;
		w->thread = pool->n_started + 1;
		if (pthread_create(&pool->workers[pool->n_started], NULL, worker_main, w) != 0)
			break;
		pool->n_started++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

bool
g2_pool_open(uint32_t threads, uint32_t nice, g2_pool **out, g2_error *err)
{
	g2_pool    *pool = NULL;

	if (threads < 1)
		return g2_fail(err, G2_E_INTERNAL, "a pool needs at least one thread");
	pool = g2_alloc(sizeof *pool);
	if (!pool)
		return g2_fail_memory(err, sizeof *pool);
	pool->n_threads = threads;
	pool->nice = nice;
	pool->workers = g2_alloc_array(threads, sizeof *pool->workers);
	pool->worker_args = g2_alloc_array(threads, sizeof *pool->worker_args);
	if (!pool->workers || !pool->worker_args)
	{
		g2_pool_close(pool);
		return g2_fail_memory(err, threads * (unsigned long long) sizeof *pool->worker_args);
	}
	start_workers(pool);
	if (pool->n_started < threads - 1)
	{
		uint32_t	got = pool->n_started + 1;

		g2_pool_close(pool);
		return g2_fail(err, G2_E_SYSTEM, "could not start %u compute threads (got %u)", threads,
					   got);
	}
	*out = pool;
	return true;
}

void
g2_pool_close(g2_pool *pool)
{
	if (!pool)
		return;
	atomic_store(&pool->quit, true);
	announce(pool, UINT32_MAX);
	for (uint32_t i = 0; i < pool->n_started; i++)
		pthread_join(pool->workers[i], NULL);
	g2_free(pool->workers);
	g2_free(pool->worker_args);
	g2_free(pool);
}

uint32_t
g2_pool_threads(const g2_pool *pool)
{
	return pool->n_threads;
}

/* Waits until all tasks of the running job have ended. */
static void
wait_for_tasks(g2_pool *pool, uint32_t n_tasks)
{
	uint32_t	done;

	for (int i = 0; i < SPIN_ROUNDS; i++)
	{
		if (atomic_load_explicit(&pool->done, memory_order_acquire) == n_tasks)
			return;
		spin_pause();
	}
	atomic_store(&pool->caller_sleeps, 1);
	while ((done = atomic_load(&pool->done)) != n_tasks)
		futex_wait(&pool->done, done);
	atomic_store(&pool->caller_sleeps, 0);
}

void
g2_pool_run(g2_pool *pool, uint32_t n_tasks, g2_pool_fn fn, void *arg)
{
	/* One task, or nobody to share with: no other thread needs to know. */
	if (n_tasks <= 1 || pool->n_threads == 1)
	{
		for (uint32_t i = 0; i < n_tasks; i++)
			fn(arg, i, 0);
		return;
	}
	pool->fn = fn;
	pool->arg = arg;
	atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
	atomic_store_explicit(&pool->ticket, (uint64_t) n_tasks << 32, memory_order_release);
	announce(pool, n_tasks - 1);
	work(pool, 0);
	wait_for_tasks(pool, n_tasks);
}
