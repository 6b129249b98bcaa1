/*
 * runtime_cuda.cu: runtime.h over the CUDA runtime.
 */
#include "runtime.h"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

struct rt_event
{
	cudaEvent_t event;
};

struct rt_graph
{
	cudaGraphExec_t graph;
};

static bool
check(cudaError_t rc, const char *what, g2_error *err)
{
	if (rc == cudaSuccess)
		return true;
	return g2_fail(err, G2_E_SYSTEM, "the CUDA device failed to %s: %s", what,
				   cudaGetErrorString(rc));
}

static cudaStream_t
native(rt_stream stream)
{
	return static_cast<cudaStream_t>(stream);
}

/* ---- devices ---- */

static bool
no_device(g2_error *err, const char *why)
{
	g2_fail(err, G2_E_UNSUPPORTED, "no CUDA device can be used: %s", why);
	return g2_fail_hint(err, "Set gpt2.device to \"auto\" or \"cpu\", or see that \"nvidia-smi\" "
						"lists a device for the server's operating system user.");
}

static bool
check_driver(rt_info *info, g2_error *err)
{
	int			driver = 0,
				runtime = 0;
	char		why[128];

	if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
		return no_device(err, "there is no driver");
	cudaRuntimeGetVersion(&runtime);
	snprintf(info->driver, sizeof info->driver, "%d.%d (runtime %d.%d)", driver / 1000,
			 driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	/* Minor versions are compatible, majors are not. */
	if (driver / 1000 >= runtime / 1000)
		return true;
	snprintf(why, sizeof why, "the driver is for CUDA %d.%d, this build needs %d.0", driver / 1000,
			 driver % 1000 / 10, runtime / 1000);
	return no_device(err, why);
}

bool
rt_open(uint32_t index, rt_info *info, g2_error *err)
{
	cudaDeviceProp p;
	int			n = 0;
	size_t		free_bytes,
				total;
	char		why[128];
	cudaError_t rc;

	/* A kernel that is loaded at its first launch may find no memory, most of which is taken before. */
	setenv("CUDA_MODULE_LOADING", "EAGER", 0);
	if (!check_driver(info, err))
		return false;
	rc = cudaGetDeviceCount(&n);
	if (rc != cudaSuccess || n == 0)
		return no_device(err, rc == cudaSuccess ? "the driver lists none" : cudaGetErrorString(rc));
	if (index >= (uint32_t) n)
	{
		snprintf(why, sizeof why, "there is no device %u, only 0 .. %d", index, n - 1);
		return no_device(err, why);
	}
	if ((rc = cudaGetDeviceProperties(&p, (int) index)) != cudaSuccess ||
		(rc = cudaInitDevice((int) index, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid))
		!= cudaSuccess ||
		(rc = cudaSetDevice((int) index)) != cudaSuccess ||
		(rc = cudaMemGetInfo(&free_bytes, &total)) != cudaSuccess)
		return no_device(err, cudaGetErrorString(rc));
	info->capability = (uint32_t) (10 * p.major + p.minor);
	if (info->capability < 80)
	{
		snprintf(why, sizeof why, "%s has compute capability %d.%d, 8.0 is needed", p.name, p.major,
				 p.minor);
		return no_device(err, why);
	}
	snprintf(info->name, sizeof info->name, "%.63s", p.name);
	snprintf(info->isa, sizeof info->isa, "sm%u", info->capability);
	info->processors = (uint32_t) p.multiProcessorCount;
	info->free_bytes = free_bytes;
	return true;
}

bool
rt_use(uint32_t index, g2_error *err)
{
	return check(cudaSetDevice((int) index), "be chosen", err);
}

/* ---- streams and memory ---- */

bool
rt_stream_open(rt_stream *stream, g2_error *err)
{
	cudaStream_t s;

	if (!check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "open a stream", err))
		return false;
	*stream = s;
	return true;
}

void
rt_stream_close(rt_stream stream)
{
	if (!stream)
		return;
	cudaStreamSynchronize(native(stream));
	cudaStreamDestroy(native(stream));
}

static bool
check_memory(cudaError_t rc, size_t bytes, g2_error *err)
{
	if (rc == cudaErrorMemoryAllocation)
	{
		cudaGetLastError();		/* this one is not sticky */
		return g2_fail_memory(err, bytes);
	}
	return check(rc, "allocate memory", err);
}

bool
rt_alloc(size_t bytes, void **p, g2_error *err)
{
	return check_memory(cudaMalloc(p, bytes), bytes, err);
}

void
rt_free(void *p)
{
	if (p)
		cudaFree(p);
}

bool
rt_host_alloc(size_t bytes, void **p, g2_error *err)
{
	return check_memory(cudaMallocHost(p, bytes), bytes, err);
}

void
rt_host_free(void *p)
{
	if (p)
		cudaFreeHost(p);
}

bool
rt_copy_in(rt_stream stream, void *device, const void *host, size_t n, g2_error *err)
{
	return check(cudaMemcpyAsync(device, host, n, cudaMemcpyHostToDevice, native(stream)),
				 "read memory", err);
}

bool
rt_copy_out(rt_stream stream, void *host, const void *device, size_t n, g2_error *err)
{
	return check(cudaMemcpyAsync(host, device, n, cudaMemcpyDeviceToHost, native(stream)),
				 "write memory", err);
}

bool
rt_zero(rt_stream stream, void *device, size_t n, g2_error *err)
{
	return check(cudaMemsetAsync(device, 0, n, native(stream)), "clear memory", err);
}

bool
rt_wait(rt_stream stream, g2_error *err)
{
	return check(cudaStreamSynchronize(native(stream)), "finish its work", err);
}

/* ---- events ---- */

bool
rt_event_open(rt_event **event, g2_error *err)
{
	rt_event   *e = static_cast<rt_event *>(malloc(sizeof *e));

	if (!e)
		return g2_fail_memory(err, sizeof *e);
	if (!check(cudaEventCreateWithFlags(&e->event, cudaEventBlockingSync), "open an event", err))
	{
		free(e);
		return false;
	}
	*event = e;
	return true;
}

void
rt_event_close(rt_event *event)
{
	if (!event)
		return;
	cudaEventDestroy(event->event);
	free(event);
}

bool
rt_event_record(rt_stream stream, rt_event *event, g2_error *err)
{
	return check(cudaEventRecord(event->event, native(stream)), "record an event", err);
}

bool
rt_event_wait(rt_event *event, g2_error *err)
{
	return check(cudaEventSynchronize(event->event), "finish its work", err);
}

int64_t
rt_event_between(const rt_event *first, const rt_event *last)
{
	float		ms = 0.0f;

	if (cudaEventElapsedTime(&ms, first->event, last->event) != cudaSuccess)
	{
		cudaGetLastError();		/* so that rt_check does not take it for a launch's */
		return 0;
	}
	return static_cast<int64_t>(ms * 1000.0f);
}

/* ---- graphs ---- */

bool
rt_capture_begin(rt_stream stream, g2_error *err)
{
	return check(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal),
				 "begin a graph", err);
}

bool
rt_capture_end(rt_stream stream, rt_graph **graph, g2_error *err)
{
	cudaGraph_t captured;
	rt_graph   *g = static_cast<rt_graph *>(malloc(sizeof *g));
	bool		ok;

	*graph = NULL;
	if (!check(cudaStreamEndCapture(native(stream), &captured), "end a graph", err))
	{
		free(g);
		return false;
	}
	ok = g ? check_memory(cudaGraphInstantiate(&g->graph, captured, 0), 0, err) :
		g2_fail_memory(err, sizeof *g);
	cudaGraphDestroy(captured);
	/* Its memory on the device is taken here: at its first launch it could not be done without. */
	if (ok && !check_memory(cudaGraphUpload(g->graph, native(stream)), 0, err))
	{
		cudaGraphExecDestroy(g->graph);
		ok = false;
	}
	if (!ok)
	{
		free(g);
		return false;
	}
	*graph = g;
	return true;
}

bool
rt_graph_launch(rt_stream stream, rt_graph *graph, g2_error *err)
{
	return check(cudaGraphLaunch(graph->graph, native(stream)), "launch a graph", err);
}

void
rt_graph_close(rt_graph *graph)
{
	if (!graph)
		return;
	cudaGraphExecDestroy(graph->graph);
	free(graph);
}

bool
rt_check(g2_error *err)
{
	return check(cudaGetLastError(), "launch a kernel", err);
}
