/*
 * runtime.h: the few calls to a device's runtime that the back end makes; implemented over CUDA
 * (runtime_cuda.cu), and by the emulation (runtime_emu.cpp), so that the same back end is tested
 * without a GPU.
 *
 * A stream carries out its work in order and while the caller goes on.  A call that fails returns
 * false and fills err: 53200 for memory, 58000 (the device is lost) for all else; from the first
 * 58000 on every call gives 58000.  Errors of kernels are seen by the first call after them.
 *
 * Threads: rt_event_wait may be called by another thread than the one that uses the stream.
 */
#ifndef G2_RUNTIME_H
#define G2_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "engine_headers.h"

typedef struct rt_info
{
	char		name[64];		/* "NVIDIA H200" */
	char		isa[16];		/* "sm90" */
	char		driver[64];		/* "13.0 (runtime 13.0)" */
	uint32_t	capability;		/* 10 * major + minor */
	uint32_t	processors;		/* multiprocessors */
	uint64_t	free_bytes;
} rt_info;

typedef void *rt_stream;
typedef struct rt_event rt_event;
typedef struct rt_graph rt_graph;

/* Makes device `index` the calling thread's.  0A000: there is none, or its driver is too old. */
extern bool rt_open(uint32_t index, rt_info *info, g2_error *err);

/* For another thread of a process that has opened the device. */
extern bool rt_use(uint32_t index, g2_error *err);

extern bool rt_stream_open(rt_stream *stream, g2_error *err);
extern void rt_stream_close(rt_stream stream);	/* waits for its work; NULL is allowed */

/* Memory of the device; and of the host, which copies read and write while others run. */
extern bool rt_alloc(size_t bytes, void **p, g2_error *err);
extern void rt_free(void *p);
extern bool rt_host_alloc(size_t bytes, void **p, g2_error *err);
extern void rt_host_free(void *p);

/* Host memory of copy_in and copy_out stays untouched until an event behind them. */
extern bool rt_copy_in(rt_stream stream, void *device, const void *host, size_t n, g2_error *err);
extern bool rt_copy_out(rt_stream stream, void *host, const void *device, size_t n, g2_error *err);
extern bool rt_zero(rt_stream stream, void *device, size_t n, g2_error *err);

/* Waits: for loading models. */
extern bool rt_wait(rt_stream stream, g2_error *err);

/* Waiting sleeps, it does not spin. */
extern bool rt_event_open(rt_event **event, g2_error *err);
extern void rt_event_close(rt_event *event);
extern bool rt_event_record(rt_stream stream, rt_event *event, g2_error *err);
extern bool rt_event_wait(rt_event *event, g2_error *err);

/* Microseconds between two events that have been waited for. */
extern int64_t rt_event_between(const rt_event *first, const rt_event *last);

/* Launches between begin and end do not run; they become a graph, which runs them as often as it is
 * launched, with the same arguments. */
extern bool rt_capture_begin(rt_stream stream, g2_error *err);
extern bool rt_capture_end(rt_stream stream, rt_graph **graph, g2_error *err);
extern bool rt_graph_launch(rt_stream stream, rt_graph *graph, g2_error *err);
extern void rt_graph_close(rt_graph *graph);

/* Whether a launch before has failed. */
extern bool rt_check(g2_error *err);

#endif							/* G2_RUNTIME_H */
