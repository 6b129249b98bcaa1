/*
 * helper.c: a queue of jobs, threads that run them, a list of ended jobs.
 *
 * `mutex` protects everything in g2_helper but `threads`, `n_threads` and `event_fd`, which are
 * set before the first thread starts.  A job is in one list at a time: todo, (running), ended.
 */
#include "helper.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

typedef struct job_list
{
	g2_job	   *first;
	g2_job	  **last;
} job_list;

struct g2_helper
{
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	job_list	todo;
	job_list	ended;
	bool		stop;
	int			event_fd;
	uint32_t	n_threads;
	pthread_t	threads[];
};

static void
list_push(job_list *list, g2_job *job)
{
	job->next = NULL;
	*list->last = job;
	list->last = &job->next;
}

static g2_job *
list_take_all(job_list *list)
{
	g2_job	   *jobs = list->first;

	list->first = NULL;
	list->last = &list->first;
	return jobs;
}

static g2_job *
list_pop(job_list *list)
{
	g2_job	   *job = list->first;

	if (job)
	{
		list->first = job->next;
		if (!list->first)
			list->last = &list->first;
	}
	return job;
}

static void *
helper_main(void *arg)
{
	g2_helper  *helper = arg;
	const uint64_t one = 1;

	pthread_mutex_lock(&helper->mutex);
	while (!helper->stop)
	{
		g2_job	   *job = list_pop(&helper->todo);

		if (!job)
		{
			pthread_cond_wait(&helper->wake, &helper->mutex);
			continue;
		}
		pthread_mutex_unlock(&helper->mutex);
		job->run(job);
		pthread_mutex_lock(&helper->mutex);
		list_push(&helper->ended, job);
		/* Cannot fail short of an overflow of the counter, which wakes the reader too. */
		if (write(helper->event_fd, &one, sizeof one) < 0)
			continue;
	}
	pthread_mutex_unlock(&helper->mutex);
	return NULL;
}

static void
helper_join(g2_helper *helper)
{
	pthread_mutex_lock(&helper->mutex);
	helper->stop = true;
	pthread_cond_broadcast(&helper->wake);
	pthread_mutex_unlock(&helper->mutex);
	for (uint32_t i = 0; i < helper->n_threads; i++)
		pthread_join(helper->threads[i], NULL);
}

bool
g2_helper_open(uint32_t threads, int event_fd, g2_helper **out, g2_error *err)
{
	size_t		bytes = sizeof(g2_helper) + threads * sizeof(pthread_t);
	g2_helper  *helper = g2_alloc(bytes);
	sigset_t	all,
				old;

	if (!helper)
		return g2_fail_memory(err, bytes);
	pthread_mutex_init(&helper->mutex, NULL);
	pthread_cond_init(&helper->wake, NULL);
	list_take_all(&helper->todo);
	list_take_all(&helper->ended);
	helper->event_fd = event_fd;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (helper->n_threads < threads &&
		   pthread_create(&helper->threads[helper->n_threads], NULL, helper_main, helper) == 0)
		helper->n_threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (helper->n_threads < threads)
	{
		g2_helper_close(helper);
		return g2_fail(err, G2_E_MEMORY, "could not start a helper thread");
	}
	*out = helper;
	return true;
}

void
g2_helper_close(g2_helper *helper)
{
	if (!helper)
		return;
	helper_join(helper);
	g2_helper_collect(helper);
	for (g2_job *job = list_take_all(&helper->todo), *next; job; job = next)
	{
		next = job->next;
		job->done(job);
	}
	pthread_mutex_destroy(&helper->mutex);
	pthread_cond_destroy(&helper->wake);
	g2_free(helper);
}

void
g2_helper_submit(g2_helper *helper, g2_job *job)
{
	pthread_mutex_lock(&helper->mutex);
	list_push(&helper->todo, job);
	pthread_cond_signal(&helper->wake);
	pthread_mutex_unlock(&helper->mutex);
}

void
g2_helper_collect(g2_helper *helper)
{
	g2_job	   *jobs,
			   *next;

	pthread_mutex_lock(&helper->mutex);
	jobs = list_take_all(&helper->ended);
	pthread_mutex_unlock(&helper->mutex);
	for (; jobs; jobs = next)
	{
		next = jobs->next;
		jobs->done(jobs);
	}
}
