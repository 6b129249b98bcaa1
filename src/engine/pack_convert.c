/*
 * pack_convert.c: the one pass over the source's bytes that hashes, converts and writes them.
 *
 * A file is read from front to back, so the content hash is that of the very bytes that went into
 * the pack.  A tensor goes through memory in groups of rows of about 4 MB (a whole panel where
 * that is more); each group lands at its place in the pack, wherever that is.  What a norm has to
 * say of the matrix behind it is read beforehand (pack_equalize.c), whatever their order.
 */
#include "pack_convert.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "file.h"
#include "pack_equalize.h"
#include "quantize.h"

#define CONVERT_GROUP (1u << 20)	/* elements of a group */
#define CONVERT_SKIP (1u << 16)	/* elements read at a time where only the hash wants them */
#define WORD sizeof(uint32_t)	/* in which g2_pack_sum counts */
#define CONVERT_WRITE_BACK (32u << 20)	/* bytes after which the disk is set to work */

/* Rows of a tensor that are converted at a time: of panels whole groups of k, or whole panels. */
static uint64_t
convert_rows(const g2_layout_tensor *t)
{
	uint64_t	rows = CONVERT_GROUP / t->cols,
				unit = 1;

	if (t->store == G2_STORE_PANELS_T)
		unit = G2_PANEL;
	else if (t->store == G2_STORE_PANELS)
		unit = G2_GROUP;
	return G2_MIN(G2_MAX(rows / unit, 1) * unit, t->rows);
}

/* k of a panel that is made at a time, padded. */
static uint64_t
convert_depth(const g2_layout_tensor *t)
{
	uint64_t	k = t->store == G2_STORE_PANELS_T ? t->cols : convert_rows(t);

	return G2_ROUND_UP(k, (uint64_t) G2_GROUP);
}

bool
g2_convert_start(g2_converter *c, g2_error *err)
{
	size_t		in = CONVERT_SKIP,
				out = 1,
				packed = 1,
				rows = 1;

	for (uint32_t i = 0; i < c->layout->n; i++)
	{
		const g2_layout_tensor *t = &c->layout->tensor[i];

		in = G2_MAX(in, (size_t) (convert_rows(t) * t->cols));
		if (t->store == G2_STORE_BIAS)
			out = G2_MAX(out, (size_t) G2_ROUND_UP(t->cols, G2_PANEL));
		else if (t->store != G2_STORE_ROWS)
		{
			out = G2_MAX(out, (size_t) convert_depth(t) * G2_PANEL);
			packed = G2_MAX(packed, g2_panel_bytes(t->format, (uint32_t) convert_depth(t)));
			rows = G2_MAX(rows, (size_t) G2_ROUND_UP(t->rows, (uint64_t) G2_GROUP));
		}
	}
	c->in_size = in;
	c->in = g2_alloc_array(in, sizeof *c->in);
	c->half = g2_alloc_array(in, sizeof *c->half);
	c->out = g2_alloc_array(out, sizeof *c->out);
	c->packed = g2_alloc(packed);
	c->importance = g2_alloc_array(rows, sizeof *c->importance);
	if (!c->in || !c->half || !c->out || !c->packed || !c->importance)
		g2_fail_memory(err, in * 6 + (out + rows) * sizeof *c->out + packed);
	else if (g2_equalize_start(c, err))
		return true;
	g2_convert_end(c);
	return false;
}

void
g2_convert_end(g2_converter *c)
{
	g2_free(c->in);
	g2_free(c->half);
	g2_free(c->out);
	g2_free(c->packed);
	g2_free(c->importance);
	g2_equalize_end(c);
	c->in = c->out = c->importance = NULL;
	c->half = NULL;
	c->packed = NULL;
}

/* After n bytes have been read. */
static bool
convert_step(g2_converter *c, const void *bytes, size_t n, g2_error *err)
{
	g2_hash_add(c->hash, bytes, n);
	if (c->progress)
		atomic_fetch_add_explicit(&c->progress->done, n, memory_order_relaxed);
	if (c->cancel && atomic_load_explicit(c->cancel, memory_order_relaxed))
		return g2_fail(err, G2_E_CANCELED, "packing the model was canceled");
	return true;
}

/* words: of the weights section, at this word of it. */
static bool
convert_write(g2_converter *c, const void *words, uint64_t n, uint64_t at, g2_error *err)
{
	c->sum += g2_pack_sum(words, n, at);
	if (!g2_file_pwrite(c->fd, c->path, words, n * WORD, c->weights_offset + at * WORD, err))
		return false;
	c->unsynced += n * WORD;
	if (c->unsynced >= CONVERT_WRITE_BACK)
	{
		/* starts the disk early, so that the fsync at the end has less to wait for; a failure
		 * shows there */
		(void) sync_file_range(c->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		c->unsynced = 0;
	}
	return true;
}

/* c->out, k first .. first + k of panel p, to the tensor's format and its place. */
static bool
convert_panel(g2_converter *c, const g2_layout_tensor *t, uint64_t p, uint64_t first, uint64_t k,
			  uint64_t all_k, g2_error *err)
{
	const uint64_t at = t->offset + p * g2_panel_bytes(t->format, (uint32_t) all_k);
	const uint32_t padded = (uint32_t) G2_ROUND_UP(k, (uint64_t) G2_GROUP);
	size_t		scales = padded / G2_GROUP * G2_PANEL * sizeof(uint16_t);

	if (t->format == G2_FORMAT_F32)
		return convert_write(c, c->out, k * G2_PANEL, at / WORD + first * G2_PANEL, err);
	memset(c->out + k * G2_PANEL, 0, (padded - k) * G2_PANEL * sizeof *c->out);
	g2_quantize(t->format, c->out, padded, t->norm == G2_NO_NORM ? NULL : c->importance + first,
				c->packed, (uint16_t *) (c->packed + g2_panel_scales(t->format, padded)));
	if (!convert_write(c, c->packed, g2_panel_scales(t->format, (uint32_t) k) / WORD,
					   (at + g2_panel_scales(t->format, (uint32_t) first)) / WORD, err))
		return false;
	if (t->format == G2_FORMAT_BF16)
		return true;
	return convert_write(c, c->packed + g2_panel_scales(t->format, padded), scales / WORD,
						 (at + g2_panel_scales(t->format, (uint32_t) all_k) +
						  first / G2_GROUP * G2_PANEL * sizeof(uint16_t)) / WORD, err);
}

/* rows first .. first + n of a Conv1D matrix [k][n] -> a piece of each panel. */
static bool
convert_panels(g2_converter *c, const g2_layout_tensor *t, uint64_t first, uint64_t rows,
			   g2_error *err)
{
	uint64_t	panels = G2_ROUND_UP(t->cols, G2_PANEL) / G2_PANEL;

	for (uint64_t p = 0; p < panels; p++)
	{
		size_t		width = (size_t) G2_MIN(t->cols - p * G2_PANEL, G2_PANEL);
		const float *from = c->in + p * G2_PANEL;
		float	   *to = c->out;

		for (uint64_t r = 0; r < rows; r++, from += t->cols, to += G2_PANEL)
		{
			memcpy(to, from, width * sizeof *to);
			memset(to + width, 0, (G2_PANEL - width) * sizeof *to);
		}
		if (!convert_panel(c, t, p, first, rows, t->rows, err))
			return false;
	}
	return true;
}

/* 48 rows [n][k] of the embedding -> one panel [k][48]; first is a multiple of 48. */
static bool
convert_panels_t(g2_converter *c, const g2_layout_tensor *t, uint64_t first, uint64_t rows,
				 g2_error *err)
{
	const uint64_t k = t->cols;

	for (uint64_t r = 0; r < rows; r += G2_PANEL)
	{
		size_t		width = (size_t) G2_MIN(rows - r, G2_PANEL);
		const float *from = c->in + r * k;
		float	   *to = c->out;

		for (uint64_t i = 0; i < k; i++, from++, to += G2_PANEL)
		{
			for (size_t j = 0; j < width; j++)
				to[j] = from[j * k];
			memset(to + width, 0, (G2_PANEL - width) * sizeof *to);
		}
		if (!convert_panel(c, t, (first + r) / G2_PANEL, 0, k, k, err))
			return false;
	}
	return true;
}

static bool
convert_rows_as_they_are(g2_converter *c, const g2_layout_tensor *t, uint64_t first,
						 uint64_t rows, g2_error *err)
{
	uint64_t	n = rows * t->cols;

	if (t->store == G2_STORE_BIAS)
	{
		uint64_t	padded = G2_ROUND_UP(n, G2_PANEL);

		memcpy(c->out, c->in, n * sizeof *c->out);
		memset(c->out + n, 0, (padded - n) * sizeof *c->out);
		return convert_write(c, c->out, padded, t->offset / 4, err);
	}
	return convert_write(c, c->in, n, t->offset / 4 + first * t->cols, err);
}

/*
 * How much errors in the rows of a matrix behind a norm count: by the square that the norm's
 * output has there on average, gain^2 + bias^2.
 */
static bool
convert_importance(g2_converter *c, const g2_layout_tensor *t, g2_error *err)
{
	const uint64_t k = t->rows;
	const g2_layout_tensor *gain = &c->layout->tensor[t->norm];

	if (!g2_source_read(c->source, gain, 0, 1, c->importance, err) ||
		!g2_source_read(c->source, gain + 1, 0, 1, c->in, err))
		return false;
	g2_equalize_apply(c, gain, 0, 1, c->importance);
	g2_equalize_apply(c, gain + 1, 0, 1, c->in);
	for (uint64_t i = 0; i < k; i++)
		c->importance[i] = c->importance[i] * c->importance[i] + c->in[i] * c->in[i];
	memset(c->importance + k, 0, (G2_ROUND_UP(k, (uint64_t) G2_GROUP) - k) * sizeof *c->in);
	return true;
}

static bool
convert_tensor(g2_converter *c, const g2_safetensors *st, const g2_tensor *tensor,
			   const g2_layout_tensor *t, g2_error *err)
{
	const size_t size = g2_dtype_size(tensor->dtype);
	void	   *raw = size == sizeof *c->in ? (void *) c->in : (void *) c->half;
	uint64_t	group = convert_rows(t);

	if (t->norm != G2_NO_NORM && !convert_importance(c, t, err))
		return false;
	for (uint64_t first = 0; first < t->rows; first += group)
	{
		uint64_t	rows = G2_MIN(group, t->rows - first),
					n = rows * t->cols;
		bool		ok;

		if (!g2_safetensors_pread(st, raw, n * size, tensor->begin + first * t->cols * size,
								  err) ||
			!convert_step(c, raw, n * size, err) ||
			!g2_safetensors_convert(st, tensor, first * t->cols, raw, n, c->in, err))
			return false;
		g2_equalize_apply(c, t, first, rows, c->in);
		if (t->store == G2_STORE_PANELS)
			ok = convert_panels(c, t, first, rows, err);
		else if (t->store == G2_STORE_PANELS_T)
			ok = convert_panels_t(c, t, first, rows, err);
		else
			ok = convert_rows_as_they_are(c, t, first, rows, err);
		if (!ok)
			return false;
	}
	return true;
}

/* Bytes that only the hash wants. */
static bool
convert_skip(g2_converter *c, const g2_safetensors *st, uint64_t begin, uint64_t end,
			 g2_error *err)
{
	while (begin < end)
	{
		size_t		n = (size_t) G2_MIN(end - begin, c->in_size * sizeof *c->in);

		if (!g2_safetensors_pread(st, c->in, n, begin, err) || !convert_step(c, c->in, n, err))
			return false;
		begin += n;
	}
	return true;
}

bool
g2_convert_weights(g2_converter *c, const g2_safetensors *st, g2_error *err)
{
	if (!convert_skip(c, st, 0, g2_safetensors_data_begin(st), err))
		return false;
	for (uint32_t i = 0; i < g2_safetensors_count(st); i++)
	{
		const g2_tensor *tensor = g2_safetensors_at(st, i);
		int64_t		index = g2_source_index(c->source, c->layout, c->by_name, tensor->name);

		if (index < 0 ? !convert_skip(c, st, tensor->begin, tensor->end, err)
			: !convert_tensor(c, st, tensor, &c->layout->tensor[index], err))
			return false;
	}
	return true;
}

bool
g2_convert_other(g2_converter *c, const char *folder, const char *name, uint64_t size,
				 g2_error *err)
{
	uint64_t	now,
				at = 0;
	int			fd = g2_file_open(folder, name, &now, err);
	bool		ok = true;

	if (fd < 0)
		return false;
	if (now != size)
		ok = g2_fail(err, G2_E_IO, "\"%s\" of the model changed while it was being packed", name);
	while (ok && at < size)
	{
		size_t		n = (size_t) G2_MIN(size - at, c->in_size * sizeof *c->in);

		ok = g2_file_pread(fd, name, c->in, n, at, err) && convert_step(c, c->in, n, err);
		at += n;
	}
	close(fd);
	return ok;
}
