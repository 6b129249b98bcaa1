/*
 * emulator.cpp: the blocks of a launch on the CPU, each thread of a block a fiber.
 *
 * A fiber runs until it must wait: for all of its block or of its warp.  Both are counting
 * barriers: an arrival adds one, the last one starts the next round, and a fiber that waits goes on
 * when the round is no longer the one that it waited in.  Operations of a warp (exchange, products)
 * are such a barrier with a value that each lane leaves; the last to arrive computes for all.
 *
 * Everything here belongs to the thread of the system that calls emu_run.
 */
#include "device_emu.h"
#include "emulator_control.h"
#include "emulator_fiber.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <vector>

thread_local dim3 threadIdx;
thread_local dim3 blockIdx;
thread_local dim3 blockDim;
thread_local dim3 gridDim;

namespace
{

const size_t lane_bytes = 32;	/* what a lane may leave for its warp */
const unsigned warp_lanes = 32;
const unsigned max_threads = 1024;
const size_t max_shared = 99 << 10;
const uint32_t poison = 0x7fc0dead;	/* as a float, a NaN */

[[noreturn]] void
give_up(const char *what)
{
	fprintf(stderr, "emulated kernel: %s, block (%u, %u, %u)\n", what, blockIdx.x, blockIdx.y,
			blockIdx.z);
	abort();
}

/* ---- a block ---- */

struct barrier
{
	unsigned	threads;
	unsigned	arrived;
	uint64_t	round;
};

struct copy
{
	void	   *to;
	const void *from;
	size_t		size;
};

struct fiber
{
	context		at;
	char	   *stack;
	dim3		index;
	unsigned	linear;
	bool		ended;
	const barrier *waits;		/* NULL: it can run */
	uint64_t	round;			/* that it waits in */
	std::vector<std::vector<copy>> groups;	/* of asynchronous copies, the last one still open */
};

struct warp
{
	barrier		all;
	alignas(16) unsigned char left[2][warp_lanes][lane_bytes];	/* by parity of the round */
};

struct block
{
	context		scheduler;
	const std::function<void()> *kernel;
	std::vector<fiber> fibers;
	std::vector<warp> warps;
	barrier		all;
	void	   *shared;
	fiber	   *current;
	std::minstd_rand order;		/* of threads' turns; and which copies are early */
};

thread_local block *here;
std::atomic<uint64_t> next_order(1);	/* a seed for the turns of each launch */

/* Stacks are kept from launch to launch, and never cleared. */
thread_local std::unique_ptr<char[]> stacks;

void
leave()
{
	fiber	   *f = here->current;

	f->at.go(&here->scheduler, nullptr, system_stack());
	threadIdx = f->index;
}

void
fiber_main()
{
	context::arrived();
	threadIdx = here->current->index;
	(*here->kernel)();
	for (const std::vector<copy> &g : here->current->groups)
		if (!g.empty())
			give_up("ends before its asynchronous copies");
	here->current->ended = true;
	leave();
	abort();
}

/* Returns true to the last that arrives, which must call pass() when the others may go on. */
bool
arrive(barrier *b)
{
	fiber	   *f = here->current;

	if (++b->arrived == b->threads)
		return true;
	f->waits = b;
	f->round = b->round;
	leave();
	return false;
}

void
pass(barrier *b)
{
	b->arrived = 0;
	b->round++;
}

warp *
own_warp()
{
	return &here->warps[here->current->linear / warp_lanes];
}

bool
can_run(fiber *f)
{
	if (f->ended || (f->waits && f->waits->round == f->round))
		return false;
	f->waits = nullptr;
	return true;
}

/* One warp goes on only when no other can: what the others must not do before it is ready shows. */
void
run_block(block *b, const std::vector<unsigned> &turns)
{
	const unsigned slow = static_cast<unsigned>(b->order() / 64 % b->warps.size());
	bool		stuck = false;
	size_t		ended = 0;

	while (ended < turns.size())
	{
		bool		any = false;

		for (unsigned i : turns)
		{
			fiber	   *f = &b->fibers[i];

			if ((f->linear / warp_lanes == slow && !stuck) || !can_run(f))
				continue;
			any = true;
			b->current = f;
			b->scheduler.go(&f->at, f->stack, nullptr);
			ended += f->ended;
		}
		if (!any && stuck)
			give_up("a barrier that some threads never reach");
		stuck = !any;
	}
}

void
start_block(block *b, dim3 size)
{
	unsigned	n = size.x * size.y * size.z;

	b->all = {n, 0, 0};
	for (warp &w : b->warps)
		w.all = {warp_lanes, 0, 0};
	for (unsigned i = 0; i < n; i++)
	{
		fiber	   *f = &b->fibers[i];

		f->stack = stacks.get() + i * stack_bytes;
		f->index = dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
		f->linear = i;
		f->ended = false;
		f->waits = nullptr;
		f->groups.assign(1, {});
		f->at.start(f->stack, fiber_main);
	}
}

}								/* namespace */

void
emu_seed(uint64_t seed)
{
	next_order = seed;
}

void
emu_run(dim3 grid, dim3 size, size_t shared, const std::function<void()> &kernel)
{
	unsigned	n = size.x * size.y * size.z;
	block		b;
	std::vector<unsigned> turns(n);
	/* Exactly as many bytes as were asked for, so that a sanitizer sees any access beyond. */
	std::unique_ptr<uint32_t, decltype(&free)> memory(
		static_cast<uint32_t *>(malloc(shared > 0 ? shared : 1)), free);

	if (n == 0 || n % warp_lanes != 0 || n > max_threads || shared > max_shared)
		give_up("a launch with a wrong number of threads or bytes");
	for (unsigned i = 0; i < n; i++)
		turns[i] = i;
	b.order.seed(static_cast<unsigned>(next_order++));
	b.kernel = &kernel;
	b.fibers.resize(n);
	b.warps.resize(n / warp_lanes);
	if (!stacks)
		stacks.reset(new char[max_threads * stack_bytes]);
	b.shared = memory.get();
	here = &b;
	blockDim = size;
	gridDim = grid;
	for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
		for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
			for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
			{
				std::fill_n(memory.get(), shared / 4, poison);
				std::shuffle(turns.begin(), turns.end(), b.order);
				start_block(&b, size);
				run_block(&b, turns);
			}
	here = nullptr;
}

void *
emu_shared_memory()
{
	return here->shared;
}

void
emu_barrier()
{
	if (arrive(&here->all))
		pass(&here->all);
}

void
emu_warp_barrier()
{
	warp	   *w = own_warp();

	if (arrive(&w->all))
		pass(&w->all);
}

unsigned
emu_lane()
{
	return here->current->linear % warp_lanes;
}

/* Two rounds' values are kept, since a lane may leave the next before all have read the last. */
const unsigned char *
emu_gather(const void *v, size_t size)
{
	warp	   *w = own_warp();
	unsigned char *left = &w->left[w->all.round % 2][0][0];

	if (size > lane_bytes)
		give_up("an exchange of too many bytes");
	memcpy(left + emu_lane() * size, v, size);
	emu_warp_barrier();
	return left;
}

/* ---- asynchronous copies: some at once, the others not before they are waited for ---- */

void
emu_async(void *to, const void *from, size_t size)
{
	if (here->order() / 64 % 2)
		memcpy(to, from, size);
	else
		here->current->groups.back().push_back({to, from, size});
}

void
emu_async_commit()
{
	here->current->groups.emplace_back();
}

void
emu_async_wait(int n)
{
	std::vector<std::vector<copy>> &groups = here->current->groups;

	while (groups.size() - 1 > static_cast<size_t>(n))
	{
		for (const copy &c : groups.front())
			memcpy(c.to, c.from, c.size);
		groups.erase(groups.begin());
	}
}

/* ---- products ---- */

namespace
{

/* What the lanes leave: 4 registers of a, 2 of b. */
struct operands
{
	uint32_t	a[4];
	uint32_t	b[2];
};

const operands *
gather_operands(const uint32_t *a, const uint32_t *b)
{
	operands	own;

	memcpy(own.a, a, sizeof own.a);
	memcpy(own.b, b, sizeof own.b);
	return reinterpret_cast<const operands *>(emu_gather(&own, sizeof own));
}

float
upper_half(uint32_t word, int half)
{
	uint32_t	bits = half ? word & 0xffff0000u : word << 16;
	float		x;

	memcpy(&x, &bits, sizeof x);
	return x;
}

}								/* namespace */

/* Each lane computes its own four; k ascending, fused multiply-add (hardware: not specified). */
void
emu_mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
	const operands *all = gather_operands(a, b);
	unsigned	lane = emu_lane();

	for (unsigned i = 0; i < 4; i++)
	{
		unsigned	row = lane / 4,
					column = lane % 4 * 2 + i % 2;

		for (unsigned k = 0; k < 16; k++)
		{
			unsigned	word = k / 2;

			c[i] = fmaf(upper_half(all[row * 4 + word % 4].a[word / 4 * 2 + i / 2], k % 2),
						upper_half(all[column * 4 + word % 4].b[word / 4], k % 2), c[i]);
		}
	}
}

void
emu_mma_s8(int32_t *c, const uint32_t *a, const uint32_t *b)
{
	const operands *all = gather_operands(a, b);
	unsigned	lane = emu_lane();

	for (unsigned i = 0; i < 4; i++)
	{
		unsigned	row = lane / 4,
					column = lane % 4 * 2 + i % 2;

		for (unsigned word = 0; word < 8; word++)
		{
			uint32_t	x = all[row * 4 + word % 4].a[word / 4 * 2 + i / 2],
						y = all[column * 4 + word % 4].b[word / 4];

			for (unsigned byte = 0; byte < 32; byte += 8)
				c[i] += static_cast<int8_t>(x >> byte) * static_cast<int8_t>(y >> byte);
		}
	}
}
