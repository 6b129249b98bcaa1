/*
 * st_data.c: elements of safetensors tensors -> f32, refusing what is not a finite number.
 */
#include "safetensors.h"

#include <math.h>

#include "file.h"
#include "json.h"

#define DATA_BLOCK 4096			/* elements converted at a time on the way from a 16-bit file */

/* IEEE 754 binary16 -> binary32; exact, and right under any rounding or denormal mode. */
static inline float
data_from_f16(uint16_t h)
{
	uint32_t	sign = (uint32_t) (h & 0x8000) << 16,
				exponent = h >> 10 & 31,
				mantissa = h & 0x3FF,
				bits;
	float		f;

	if (exponent == 0)
	{
		f = (float) mantissa * 0x1p-24f;
		memcpy(&bits, &f, 4);
	}
	else if (exponent == 31)
		bits = 0x7F800000 | mantissa << 13;
	else
		bits = (exponent + 112) << 23 | mantissa << 13;
	bits |= sign;
	memcpy(&f, &bits, 4);
	return f;
}

static const char *
data_name(const g2_tensor *t, char excerpt[G2_JSON_EXCERPT])
{
	return g2_json_excerpt(excerpt, t->name, strlen(t->name));
}

static bool
data_check_finite(const g2_safetensors *st, const g2_tensor *t, uint64_t first, const float *x,
				  size_t n, g2_error *err)
{
	char		excerpt[G2_JSON_EXCERPT];
	uint32_t	bad = 0,
				bits;

	for (size_t i = 0; i < n; i++)
	{
		memcpy(&bits, &x[i], 4);
		bad |= (bits & 0x7F800000) == 0x7F800000;
	}
	if (!bad)
		return true;
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return g2_fail(err, G2_E_BAD_FILE,
						   "invalid safetensors file \"%s\" at byte %llu: tensor \"%s\": "
						   "element %llu is %s", g2_file_tail(g2_safetensors_path(st)),
						   (unsigned long long) (t->begin + (first + i) * g2_dtype_size(t->dtype)),
						   data_name(t, excerpt), (unsigned long long) (first + i),
						   isnan(x[i]) ? "NaN" : "infinite");
	return true;
}

bool
g2_safetensors_convert(const g2_safetensors *st, const g2_tensor *tensor, uint64_t first,
					   const void *raw, size_t n, float *out, g2_error *err)
{
	const uint16_t *half = raw;
	char		excerpt[G2_JSON_EXCERPT];

	switch (tensor->dtype)
	{
		case G2_DTYPE_F32:
			if (raw != out)
				memcpy(out, raw, n * sizeof *out);
			break;
		case G2_DTYPE_F16:
			for (size_t i = 0; i < n; i++)
				out[i] = data_from_f16(half[i]);
			break;
		case G2_DTYPE_BF16:
			for (size_t i = 0; i < n; i++)
			{
				uint32_t	bits = (uint32_t) half[i] << 16;

				memcpy(&out[i], &bits, 4);
			}
			break;
		default:
			return g2_fail(err, G2_E_UNSUPPORTED, "dtype %s of tensor \"%s\" in \"%s\" is not "
						   "supported", tensor->dtype_name, data_name(tensor, excerpt),
						   g2_file_tail(g2_safetensors_path(st)));
	}
	return data_check_finite(st, tensor, first, out, n, err);
}

bool
g2_safetensors_read(const g2_safetensors *st, const g2_tensor *tensor, uint64_t first, uint64_t n,
					float *out, g2_error *err)
{
	uint16_t	half[DATA_BLOCK];
	char		excerpt[G2_JSON_EXCERPT];
	size_t		size = g2_dtype_size(tensor->dtype);
	uint64_t	elements = size ? (tensor->end - tensor->begin) / size : 0;

	if (size && (first > elements || n > elements - first))
		return g2_fail(err, G2_E_INTERNAL, "read behind the end of tensor \"%s\"",
					   data_name(tensor, excerpt));
	while (n > 0)
	{
		size_t		m = (size_t) G2_MIN(n, DATA_BLOCK);
		void	   *raw = size == 4 ? (void *) out : half;

		if (!g2_safetensors_pread(st, raw, m * size, tensor->begin + first * size, err) ||
			!g2_safetensors_convert(st, tensor, first, raw, m, out, err))
			return false;
		first += m;
		out += m;
		n -= m;
	}
	return true;
}
