/*
 * bench_device.h: what the parts of bench_gpu share: the shapes, the device, and how long launches
 * take on it.
 */
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "device_kernels.h"

struct shape
{
	const char *name;
	uint32_t	n_layer;
	uint32_t	n_embd;
	uint32_t	n_head;
	uint32_t	n_vocab;
};

/* What is measured; small: in the emulation, where it must only run through. */
struct bench_plan
{
	bool		small;
	int			rounds;
	std::vector<shape> shapes;
	std::vector<uint32_t> sequences;
	std::vector<uint32_t> rows;	/* of products */
	double		bandwidth;		/* bytes per second; 0: is measured */
	double		flops;			/* bf16; 0: is measured where cuBLASLt is, or not known */
};

static inline void
check(bool ok, const g2_error &err)
{
	if (ok)
		return;
	fprintf(stderr, "bench_gpu: %s\n%s\n%s\n", err.message, err.detail, err.hint);
	exit(1);
}

/* Memory of the device, filled with numbers about 0.01 (bf16 or f32) of both signs, or with bytes. */
struct device_memory
{
	void	   *p = NULL;

	device_memory(rt_stream stream, size_t bytes)
	{
		const size_t piece = 1 << 20;
		g2_error	err = {};
		void	   *staging;

		check(rt_alloc(bytes, &p, &err) && rt_host_alloc(piece, &staging, &err), err);
		for (uint32_t i = 0; i < piece / 4; i++)
			static_cast<uint32_t *>(staging)[i] = 0x3c203c20u | (i * 2654435761u & 0x807f807fu);
		for (size_t at = 0; at < bytes; at += piece)
			check(rt_copy_in(stream, static_cast<char *>(p) + at, staging, std::min(piece, bytes - at),
							 &err), err);
		check(rt_wait(stream, &err), err);
		rt_host_free(staging);
	}
	~device_memory()
	{
		rt_free(p);
	}
	device_memory(const device_memory &) = delete;
	device_memory &operator=(const device_memory &) = delete;
};

struct bench_device
{
	rt_info		info = {};
	rt_stream	stream = NULL;
	rt_event   *begin = NULL;
	rt_event   *end = NULL;

	bench_device()
	{
		g2_error	err = {};

		check(rt_open(0, &info, &err) && rt_stream_open(&stream, &err) &&
			  rt_event_open(&begin, &err) && rt_event_open(&end, &err), err);
	}
	~bench_device()
	{
		rt_event_close(begin);
		rt_event_close(end);
		rt_stream_close(stream);
	}
	bench_device(const bench_device &) = delete;
	bench_device &operator=(const bench_device &) = delete;

	/* Microseconds of a launch: the least of some rounds, of n in a graph, which `launch` counts; 0: it
	 * cannot be launched. */
	double
	measure(int rounds, uint32_t n, const std::function<bool(uint32_t)> &launch)
	{
		g2_error	err = {};
		rt_graph   *graph = NULL;
		int64_t		best = INT64_MAX;
		bool		ok = true;

		/* A library loads its kernels at the first, which it may not do within a graph. */
		if (!launch(0))
			return 0.0;
		check(rt_wait(stream, &err) && rt_capture_begin(stream, &err), err);
		for (uint32_t i = 0; i < n && ok; i++)
			ok = launch(i);
		if (!rt_capture_end(stream, &graph, &err) || !ok)
		{
			rt_graph_close(graph);
			return 0.0;
		}
		for (int round = rounds > 1 ? 0 : 1; round <= rounds; round++)
		{
			check(rt_event_record(stream, begin, &err) && rt_graph_launch(stream, graph, &err) &&
				  rt_event_record(stream, end, &err) && rt_event_wait(end, &err), err);
			if (round > 0)		/* the first warms up */
				best = std::min(best, rt_event_between(begin, end));
		}
		rt_graph_close(graph);
		return (double) std::max<int64_t>(best, 1) / n;
	}
};

/* ---- bench_products.cpp ---- */

/* Measures the limits of the plan that are 0. */
extern void bench_limits(bench_device &d, bench_plan *plan);

/* Prints products beside cuBLASLt's, and strips beside tiles. */
extern void bench_products(bench_device &d, const bench_plan &plan);

#endif							/* BENCH_DEVICE_H */
