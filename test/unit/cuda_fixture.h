/*
 * cuda_fixture.h: what tests of CUDA kernels share (C++): a stream, memory of the device, random
 * numbers, and matrices as the engine and as the device has them.
 */
#ifndef CUDA_FIXTURE_H
#define CUDA_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <memory>
#include <vector>

#include "cuda_state.h"
#ifndef G2_TEST_GPU
#include "emulator_control.h"
#else
static inline void
emu_seed(uint64_t)
{
}
#endif

extern "C"
{
#include <cmocka.h>

#include "kernels.h"			/* the CPU's */
#include "quantize.h"
#include "reserve_blocks.h"
}

#include "philox.h"

static rt_stream stream;
static uint64_t counter;

static inline uint32_t
random_word()
{
	counter++;
	return g2_philox4x32(7, (uint32_t) counter, 0, 98, 0).word[0];
}

static inline float
random_float()
{
	return (float) (int32_t) random_word() * 0x1p-30f;	/* -2 .. 2 */
}

static inline std::vector<float>
random_floats(size_t n)
{
	std::vector<float> v(n);

	for (float &x : v)
		x = random_float();
	return v;
}

static inline void
finish_work()
{
	g2_error	err;

	assert_true(rt_wait(stream, &err));
}

static inline int
open_stream(void **)
{
	rt_info		info;
	g2_error	err;

	return rt_open(0, &info, &err) && rt_stream_open(&stream, &err) ? 0 : -1;
}

static inline int
close_stream(void **)
{
	rt_stream_close(stream);
	return 0;
}

/* Memory that starts at a line of the cache, as the CPU's kernels want it. */
template <typename T>
struct aligned
{
	std::vector<char> bytes;
	size_t		n;

	explicit aligned(size_t n_) : bytes(n_ * sizeof(T) + 64), n(n_) {}
	T *
	at()
	{
		return reinterpret_cast<T *>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
	}
};

/* Memory of the device; of no bytes: NULL. */
template <typename T>
struct on_device
{
	void	   *p = NULL;
	size_t		n;

	explicit on_device(const std::vector<T> &v) : n(v.size())
	{
		g2_error	err;

		if (n == 0)
			return;
		assert_true(rt_alloc(n * sizeof(T), &p, &err) &&
					rt_copy_in(stream, p, v.data(), n * sizeof(T), &err));
		finish_work();
	}
	~on_device()
	{
		rt_free(p);
	}
	on_device(const on_device &) = delete;
	on_device &operator=(const on_device &) = delete;

	T *
	at() const
	{
		return static_cast<T *>(p);
	}

	std::vector<T>
	back() const
	{
		std::vector<T> v(n);
		g2_error	err;

		assert_true(n == 0 || rt_copy_out(stream, v.data(), p, n * sizeof(T), &err));
		finish_work();
		return v;
	}
};

/* A random matrix in the CPU's panels. */
struct test_matrix
{
	std::vector<float> dense;	/* [n][k] before quantization */
	aligned<char> panels;
	g2_matrix	cpu;

	test_matrix(g2_format format, uint32_t k, uint32_t n)
		: dense(random_floats((size_t) k * n)),
		  panels((n + G2_PANEL - 1) / G2_PANEL * g2_panel_bytes(format, k)), cpu()
	{
		cpu = {panels.at(), format, k, n, (n + G2_PANEL - 1) / G2_PANEL * G2_PANEL};
		for (uint32_t p = 0; p < cpu.n_padded / G2_PANEL; p++)
			fill_panel(p);
	}

	void
	fill_panel(uint32_t p)
	{
		const uint32_t k = cpu.k,
					rows = (k + G2_GROUP - 1) / G2_GROUP * G2_GROUP;
		char	   *to = panels.at() + p * g2_panel_bytes(cpu.format, k);
		std::vector<float> f((size_t) rows * G2_PANEL);

		for (uint32_t i = 0; i < k; i++)
			for (uint32_t c = 0; c < G2_PANEL && p * G2_PANEL + c < cpu.n; c++)
				f[i * G2_PANEL + c] = dense[(size_t) (p * G2_PANEL + c) * k + i];
		if (cpu.format == G2_FORMAT_F32)
			memcpy(to, f.data(), (size_t) k * G2_PANEL * sizeof(float));
		else
			g2_quantize(cpu.format, f.data(), cpu.format == G2_FORMAT_BF16 ? (k + 1) / 2 * 2 : rows,
						NULL, to,
						reinterpret_cast<uint16_t *>(to + g2_panel_scales(cpu.format, k)));
	}
};

/* And on the device, in its form; f32 has it as it is. */
struct matrix_on_device : test_matrix
{
	g2d_matrix	device;
	std::unique_ptr<on_device<char>> w;
	std::unique_ptr<on_device<uint16_t>> scale;

	matrix_on_device(g2_format format, uint32_t k, uint32_t n) : test_matrix(format, k, n), device()
	{
		device.format = format;
		device.k = k;
		device.n = n;
		device.n_padded = cpu.n_padded;
		if (format == G2_FORMAT_F32)
			w.reset(new on_device<char>({panels.at(), panels.at() + cpu.n_padded / G2_PANEL *
										 g2_panel_bytes(format, k)}));
		else
			repack(format == G2_FORMAT_Q8 ? 1 : 2);
		device.w = w->at();
	}

	void
	repack(uint32_t size)
	{
		device.n_padded = g2d_round_up(cpu.n, G2D_OUTPUTS_ALIGN);
		device.units = g2d_units(cpu.k, size);
		device.units_padded = g2d_units_padded(cpu.k, size);

		std::vector<char> fragments((size_t) device.n_padded / G2D_STRIP * device.units_padded *
									G2D_FRAGMENT);
		std::vector<uint16_t> scales((size_t) device.n_padded * device.units_padded);

		for (uint32_t s = 0; s < device.n_padded / G2D_STRIP; s++)
			g2d_repack_strip(&cpu, device.units_padded, s,
							 fragments.data() + (size_t) s * device.units_padded * G2D_FRAGMENT,
							 scales.data() + (size_t) s * device.units_padded * G2D_STRIP);
		w.reset(new on_device<char>(fragments));
		scale.reset(new on_device<uint16_t>(scales));
		device.scale = scale->at();
	}
};

/* Rows of x as a product on the device takes them, made there; f32: as they are. */
struct test_operand
{
	on_device<float> rows;
	on_device<char> x;
	on_device<float> scale;
	g2d_operand device;

	test_operand(const g2d_matrix &w, const std::vector<float> &rows_, uint32_t n)
		: rows(rows_),
		  x(std::vector<char>((size_t) g2d_round_up(n, G2D_ROWS_ALIGN) * w.units_padded * G2D_UNIT)),
		  scale(std::vector<float>((size_t) g2d_round_up(n, G2D_ROWS_ALIGN) * w.units_padded)), device()
	{
		if (w.format == G2_FORMAT_F32)
		{
			device = {rows.p, NULL, w.k, 0};
			return;
		}
		device = {x.p, scale.at(), w.units_padded * G2D_UNIT, w.units_padded};
		g2d_launch_convert(stream, rows.at(), w.k, w.k, w.format, &device, n);
		finish_work();
	}
};

#endif							/* CUDA_FIXTURE_H */
