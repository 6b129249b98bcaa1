/*
 * safetensors.c: untrusted safetensors files: opened, their tensors found.
 *
 * The file's size and first bytes are checked here, the header in st_header.c.  A g2_safetensors owns
 * its descriptor and all names.
 */
#include "safetensors.h"

#include <unistd.h>

#include "file.h"
#include "st_header.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian, and so must the machine be"
#endif

size_t
g2_dtype_size(g2_dtype dtype)
{
	return dtype == G2_DTYPE_F32 ? 4 : dtype == G2_DTYPE_OTHER ? 0 : 2;
}

/* ---------------------------------------------------------------- open, close */

/* start: the first bytes of the file, 64 or as many as there are. */
static bool
st_parse(g2_safetensors *st, st_scan *s, const unsigned char *start, size_t n)
{
	uint64_t	len = 0;

	if (g2_file_is_lfs_pointer(start, n))
		return g2_file_fail_lfs(st->path, s->err);
	if (st->file_size == 0)
		return g2_st_scan_fail_short(s, 0, "the file is empty");
	if (st->file_size < 8 || n < 8)
		return g2_st_scan_fail_short(s, 0, "the file has fewer than 8 bytes");
	for (int i = 0; i < 8; i++)
		len |= (uint64_t) start[i] << (8 * i);
	if (len == 0)
		return g2_st_scan_fail_at(s, 0, "header length is 0");
	if (len > G2_ST_MAX_HEADER)
		return g2_st_scan_fail_at(s, 0, "header length %llu is above the limit of %u",
								  (unsigned long long) len, G2_ST_MAX_HEADER);
	if (len > st->file_size - 8)
		return g2_st_scan_fail_short(s, 0, "header length %llu is behind the end of the file "
									 "(%llu bytes)", (unsigned long long) len,
									 (unsigned long long) st->file_size);
	st->data_begin = s->header_end = 8 + len;
	return true;
}

static g2_safetensors *
st_new(const char *path, uint64_t file_size, g2_error *err)
{
	g2_safetensors *st = g2_alloc(sizeof *st);

	if (!st || !(st->path = g2_strdup(path)))
	{
		g2_fail_memory(err, sizeof *st + strlen(path));
		g2_free(st);
		return NULL;
	}
	st->fd = -1;
	st->file_size = file_size;
	return st;
}

bool
g2_safetensors_open(const char *folder, const char *name, g2_safetensors **out, g2_error *err)
{
	st_scan		s = {.fd = -1, .err = err};
	unsigned char start[64];
	uint64_t	size;
	char	   *path;
	g2_safetensors *st;
	bool		ok;
	int			fd = g2_file_open(folder, name, &size, err);

	if (fd < 0)
		return false;
	path = g2_file_path(folder, name);
	st = path ? st_new(path, size, err) : NULL;
	if (!path)
		g2_fail_memory(err, strlen(folder) + strlen(name));
	g2_free(path);
	if (!st)
	{
		close(fd);
		return false;
	}
	st->fd = s.fd = fd;
	s.path = st->path;
	size = G2_MIN(size, sizeof start);
	ok = g2_file_pread(fd, st->path, start, size, 0, err) &&
		st_parse(st, &s, start, size) && g2_st_scan_start(&s, 8) &&
		g2_st_read_entries(&s, st);
	g2_st_scan_free(&s);
	if (ok)
		*out = st;
	else
		g2_safetensors_close(st);
	return ok;
}

bool
g2_safetensors_parse(const char *path, const void *data, size_t len, uint64_t file_size,
					 g2_safetensors **out, g2_error *err)
{
	st_scan		s = {.fd = -1, .path = path, .err = err};
	g2_safetensors *st = st_new(path, file_size, err);
	bool		ok;

	if (!st)
		return false;
	ok = st_parse(st, &s, data, G2_MIN(len, 64));
	if (ok && st->data_begin > len)
		ok = g2_st_scan_fail_at(&s, len, "the header is cut off");
	if (ok)
	{
		s.p = (const unsigned char *) data + 8;
		s.end = (const unsigned char *) data + st->data_begin;
		s.window_end = st->data_begin;
		ok = g2_st_read_entries(&s, st);
	}
	if (ok)
		*out = st;
	else
		g2_safetensors_close(st);
	return ok;
}

void
g2_safetensors_close(g2_safetensors *st)
{
	if (!st)
		return;
	if (st->fd >= 0)
		close(st->fd);
	g2_st_free_entries(st);
	g2_free(st->path);
	g2_free(st);
}

/* ---------------------------------------------------------------- lookup */

const g2_tensor *
g2_safetensors_find(const g2_safetensors *st, const char *name)
{
	uint32_t	lo = 0,
				hi = st->n;

	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;
		const g2_tensor *t = &st->entries[st->by_name[mid]].tensor;
		int			order = strcmp(name, t->name);

		if (order == 0)
			return t;
		if (order < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

uint32_t
g2_safetensors_count(const g2_safetensors *st)
{
	return st->n;
}

const g2_tensor *
g2_safetensors_at(const g2_safetensors *st, uint32_t i)
{
	return &st->entries[i].tensor;
}

uint64_t
g2_safetensors_data_begin(const g2_safetensors *st)
{
	return st->data_begin;
}

bool
g2_safetensors_pread(const g2_safetensors *st, void *to, size_t n, uint64_t offset, g2_error *err)
{
	return g2_file_pread(st->fd, st->path, to, n, offset, err);
}

const char *
g2_safetensors_path(const g2_safetensors *st)
{
	return st->path;
}
