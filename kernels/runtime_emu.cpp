/*
 * runtime_emu.cpp: runtime.h by the emulation.  A stream is a thread with a queue of closures, so
 * that the back end meets what it would meet with a device: work that is still to be done, copies
 * that have not happened.  A graph is a list of such closures.
 */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include <deque>
#include <functional>
#include <memory>

#include "device_emu.h"
#include "emulator_control.h"

namespace
{

struct queue
{
	std::mutex	lock;
	std::condition_variable wake;
	std::condition_variable idle;
	std::deque<std::function<void()>> work;
	bool		busy = false;
	bool		quit = false;
	std::vector<std::function<void()>> *captured = nullptr;	/* of the thread that launches */
	std::thread thread;
};

uint64_t	memory_limit = (uint64_t) 1 << 30;
bool		graphs = true;
std::atomic<long> events_left(0);
std::atomic<bool> lost(false);

void
run(queue *q)
{
	std::unique_lock<std::mutex> hold(q->lock);

	for (;;)
	{
		std::function<void()> next;

		q->wake.wait(hold, [q] { return q->quit || !q->work.empty(); });
		if (q->work.empty())
			return;
		next = std::move(q->work.front());
		q->work.pop_front();
		q->busy = true;
		hold.unlock();
		next();
		next = nullptr;
		hold.lock();
		q->busy = false;
		q->idle.notify_all();
	}
}

void
put(rt_stream stream, std::function<void()> work)
{
	queue	   *q = static_cast<queue *>(stream);

	if (q->captured)
	{
		q->captured->push_back(std::move(work));
		return;
	}
	std::lock_guard<std::mutex> hold(q->lock);

	q->work.push_back(std::move(work));
	q->wake.notify_one();
}

bool
alive(g2_error *err)
{
	return !lost || g2_fail(err, G2_E_SYSTEM, "the emulated device is lost");
}

bool
allocate(size_t bytes, void **p, g2_error *err)
{
	/* Not a byte more, so that a sanitizer sees any access beyond. */
	return posix_memalign(p, 256, bytes) == 0 || g2_fail_memory(err, bytes);
}

}								/* namespace */

struct event_state
{
	std::mutex	lock;
	std::condition_variable wake;
	bool		done = false;
	int64_t		at_us = 0;
};

/* As with a device, it may be closed before its stream has come to it. */
struct rt_event
{
	std::shared_ptr<event_state> state = std::make_shared<event_state>();
};

struct rt_graph
{
	std::vector<std::function<void()>> work;
};

void
emu_enqueue(void *stream, std::function<void()> work)
{
	put(stream, std::move(work));
}

void
emu_set_memory(uint64_t bytes)
{
	memory_limit = bytes;
}

void
emu_allow_graphs(bool allowed)
{
	graphs = allowed;
}

void
emu_lose_device_at(long event)
{
	lost = false;
	events_left = event;
}

bool
rt_open(uint32_t index, rt_info *info, g2_error *err)
{
	if (index > 0)
	{
		g2_fail(err, G2_E_UNSUPPORTED, "no CUDA device can be used: there is no device %u, only "
				"0 .. 0", index);
		return g2_fail_hint(err, "The emulation has one device.");
	}
	*info = rt_info{};
	snprintf(info->name, sizeof info->name, "emulated");
	snprintf(info->isa, sizeof info->isa, "emu");
	snprintf(info->driver, sizeof info->driver, "none");
	info->capability = 80;
	info->processors = 8;		/* so that small models take both kernels of a product */
	info->free_bytes = memory_limit;
	return true;
}

bool
rt_use(uint32_t, g2_error *)
{
	return true;
}

bool
rt_stream_open(rt_stream *stream, g2_error *)
{
	queue	   *q = new queue;

	q->thread = std::thread(run, q);
	*stream = q;
	return true;
}

void
rt_stream_close(rt_stream stream)
{
	queue	   *q = static_cast<queue *>(stream);

	if (!q)
		return;
	{
		std::lock_guard<std::mutex> hold(q->lock);

		q->quit = true;
		q->wake.notify_one();
	}
	q->thread.join();
	delete q;
}

bool
rt_alloc(size_t bytes, void **p, g2_error *err)
{
	if (bytes > memory_limit)
		return g2_fail_memory(err, bytes);
	if (!allocate(bytes, p, err))
		return false;
	memset(*p, 0xff, bytes);	/* NaNs: what nobody wrote must not count */
	return true;
}

void
rt_free(void *p)
{
	free(p);
}

bool
rt_host_alloc(size_t bytes, void **p, g2_error *err)
{
	return allocate(bytes, p, err);
}

void
rt_host_free(void *p)
{
	free(p);
}

bool
rt_copy_in(rt_stream stream, void *device, const void *host, size_t n, g2_error *err)
{
	if (!alive(err))
		return false;
	put(stream, [=] { memcpy(device, host, n); });
	return true;
}

bool
rt_copy_out(rt_stream stream, void *host, const void *device, size_t n, g2_error *err)
{
	return rt_copy_in(stream, host, device, n, err);
}

bool
rt_zero(rt_stream stream, void *device, size_t n, g2_error *err)
{
	if (!alive(err))
		return false;
	put(stream, [=] { memset(device, 0, n); });
	return true;
}

bool
rt_wait(rt_stream stream, g2_error *err)
{
	queue	   *q = static_cast<queue *>(stream);
	std::unique_lock<std::mutex> hold(q->lock);

	q->idle.wait(hold, [q] { return q->work.empty() && !q->busy; });
	return alive(err);
}

bool
rt_event_open(rt_event **event, g2_error *)
{
	*event = new rt_event;
	return true;
}

void
rt_event_close(rt_event *event)
{
	delete event;
}

bool
rt_event_record(rt_stream stream, rt_event *event, g2_error *err)
{
	if (!alive(err))
		return false;
	std::shared_ptr<event_state> state = event->state;
	{
		std::lock_guard<std::mutex> hold(state->lock);

		state->done = false;
	}
	put(stream, [state] {
		std::lock_guard<std::mutex> hold(state->lock);

		state->done = true;
		state->at_us = g2_now_us();
		state->wake.notify_all();
	});
	return true;
}

bool
rt_event_wait(rt_event *event, g2_error *err)
{
	event_state *state = event->state.get();
	std::unique_lock<std::mutex> hold(state->lock);

	state->wake.wait(hold, [state] { return state->done; });
	if (events_left > 0 && --events_left == 0)
		lost = true;
	return alive(err);
}

int64_t
rt_event_between(const rt_event *first, const rt_event *last)
{
	return last->state->at_us - first->state->at_us;
}

bool
rt_capture_begin(rt_stream stream, g2_error *err)
{
	if (!alive(err))
		return false;
	static_cast<queue *>(stream)->captured = new std::vector<std::function<void()>>;
	return true;
}

bool
rt_capture_end(rt_stream stream, rt_graph **graph, g2_error *err)
{
	queue	   *q = static_cast<queue *>(stream);

	*graph = graphs ? new rt_graph{std::move(*q->captured)} : nullptr;
	delete q->captured;
	q->captured = nullptr;
	return *graph || g2_fail_memory(err, 0);
}

bool
rt_graph_launch(rt_stream stream, rt_graph *graph, g2_error *err)
{
	if (!alive(err))
		return false;
	for (const std::function<void()> &work : graph->work)
		put(stream, work);
	return true;
}

/* As with a device, work that was launched from it goes on. */
void
rt_graph_close(rt_graph *graph)
{
	delete graph;
}

bool
rt_check(g2_error *err)
{
	return alive(err);
}
