/*
 * device_emu.h: device.cuh on the CPU.  A launch is a closure that the emulated stream runs
 * (runtime_emu.cpp); each block of it runs its threads as fibers of one thread of the system,
 * in an order shuffled by a seed (emulator.cpp).
 *
 * What a GPU would only sometimes show ends the program here with a message: a barrier that some
 * threads of a block or warp never reach, shared memory beyond what the launch asked for (under
 * AddressSanitizer).  Shared memory starts as NaNs; of asynchronous copies, some happen at
 * once and some only when waited for.
 */
#ifndef G2_DEVICE_EMU_H
#define G2_DEVICE_EMU_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3
{
	unsigned	x;
	unsigned	y;
	unsigned	z;

	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct uint4
{
	uint32_t	x;
	uint32_t	y;
	uint32_t	z;
	uint32_t	w;
};

struct uint2
{
	uint32_t	x;
	uint32_t	y;
};

extern thread_local dim3 threadIdx;
extern thread_local dim3 blockIdx;
extern thread_local dim3 blockDim;
extern thread_local dim3 gridDim;

/* emulator.cpp */
extern void *emu_shared_memory();
extern void emu_barrier();
extern void emu_warp_barrier();
extern void emu_async(void *to, const void *from, size_t size);
extern void emu_async_commit();
extern void emu_async_wait(int n);
extern void emu_mma_bf16(float *c, const uint32_t *a, const uint32_t *b);
extern void emu_mma_s8(int32_t *c, const uint32_t *a, const uint32_t *b);

/* Runs all blocks of a launch, here and now. */
extern void emu_run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel);

/* Gives v to the warp, and returns where lane n's stands at n * size; valid until the next one. */
extern const unsigned char *emu_gather(const void *v, size_t size);
extern unsigned emu_lane();

/* runtime_emu.cpp: to the stream's queue. */
extern void emu_enqueue(void *stream, std::function<void()> work);

template <typename T>
inline T *
dev_shared()
{
	return static_cast<T *>(emu_shared_memory());
}

inline void
dev_barrier()
{
	emu_barrier();
}

inline void
dev_warp_barrier()
{
	emu_warp_barrier();
}

template <typename T>
inline T
dev_exchange(T v, unsigned mask)
{
	const unsigned char *all = emu_gather(&v, sizeof v);

	memcpy(&v, all + (emu_lane() ^ mask) * sizeof v, sizeof v);
	return v;
}

inline uint4
dev_load16(const void *p)
{
	return *static_cast<const uint4 *>(p);
}

inline uint2
dev_load8(const void *p)
{
	return *static_cast<const uint2 *>(p);
}

inline void
dev_async16(void *to, const void *from)
{
	emu_async(to, from, 16);
}

inline void
dev_async8(void *to, const void *from)
{
	emu_async(to, from, 8);
}

inline void
dev_async_commit()
{
	emu_async_commit();
}

template <int n>
inline void
dev_async_wait()
{
	emu_async_wait(n);
}

inline void
dev_shared_add(uint64_t *p, uint64_t v)
{
	*p += v;
}

inline uint32_t
dev_shared_take(uint32_t *p)
{
	return (*p)++;
}

inline void
dev_mma_bf16(float (&c)[4], const uint4 &a, const uint2 &b)
{
	emu_mma_bf16(c, &a.x, &b.x);
}

inline void
dev_mma_s8(int32_t (&c)[4], const uint4 &a, const uint2 &b)
{
	emu_mma_s8(c, &a.x, &b.x);
}

template <typename... P, typename... A>
inline void
dev_launch(void *stream, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... args)
{
	emu_enqueue(stream, [=]() {
		emu_run(grid, block, shared, [=]() { kernel(static_cast<P>(args)...); });
	});
}

#endif							/* G2_DEVICE_EMU_H */
