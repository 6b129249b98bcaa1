/*
 * st_builder.h: temporary folders and safetensors files for tests.
 *
 * A builder keeps header text and data apart, so that a test can write files that no library
 * would.  Everything aborts the test (cmocka) when the machine itself fails.
 */
#ifndef ST_BUILDER_H
#define ST_BUILDER_H

#include <dirent.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "util.h"

#define UNUSED __attribute__((unused))

/* ---- folders */

/* A new empty folder; in memory where that is possible, as packing calls fsync. */
static UNUSED char *
tb_folder(void)
{
	const char *base = getenv("TMPDIR");
	char		path[512];

	snprintf(path, sizeof path, "%s/gpt2-test-XXXXXX",
			 base ? base : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(path));
	return strdup(path);
}

static UNUSED int
tb_remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void) st;
	(void) kind;
	(void) ftw;
	return remove(path);
}

/* Removes the folder with all that is in it, and frees the name. */
static UNUSED void
tb_remove(char *folder)
{
	nftw(folder, tb_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(folder);
}

/* Names go round in a few buffers: good for several calls in one expression. */
static UNUSED const char *
tb_path(const char *folder, const char *name)
{
	static char path[8][4200];
	static int	next;
	int			n;

	next = (next + 1) % 8;
	n = snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
	assert_true(n > 0 && (size_t) n < sizeof path[next]);
	return path[next];
}

static UNUSED void
tb_write(const char *folder, const char *name, const void *data, size_t len)
{
	FILE	   *f = fopen(tb_path(folder, name), "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static UNUSED void
tb_text(const char *folder, const char *name, const char *text)
{
	tb_write(folder, name, text, strlen(text));
}

/* Contents in malloc'ed memory with a NUL behind them. */
static UNUSED char *
tb_read(const char *folder, const char *name, size_t *len)
{
	FILE	   *f = fopen(tb_path(folder, name), "rb");
	char	   *data;
	long		size;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	size = ftell(f);
	rewind(f);
	data = malloc((size_t) size + 1);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, (size_t) size, f), size);
	data[size] = '\0';
	fclose(f);
	*len = (size_t) size;
	return data;
}

/* Entries of a folder but for "." and "..". */
static UNUSED int
tb_count(const char *folder)
{
	DIR		   *dir = opendir(folder);
	int			n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

/* ---- safetensors files */

typedef struct st_builder
{
	g2_buf		header;			/* JSON without the outer braces */
	g2_buf		data;
} st_builder;

/* shape: "3,4"; the data's size is taken as it is given. */
static UNUSED void
stb_add(st_builder *b, const char *name, const char *dtype, const char *shape, const void *data,
		size_t len)
{
	g2_buf_printf(&b->header,
				  "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
				  b->header.len ? "," : "", name, dtype, shape, b->data.len, b->data.len + len);
	g2_buf_append(&b->data, data, len);
	assert_false(b->header.failed || b->data.failed);
}

/* length, header, data -> file (cleared first) */
static UNUSED void
stb_bytes(g2_buf *file, const char *header, size_t header_len, const void *data, size_t len)
{
	uint64_t	n = header_len;

	file->len = 0;
	g2_buf_append(file, &n, 8);
	g2_buf_append(file, header, header_len);
	g2_buf_append(file, data, len);
	assert_false(file->failed);
}

static UNUSED void
stb_save(st_builder *b, const char *folder, const char *name)
{
	g2_buf		header = {0},
				file = {0};

	g2_buf_printf(&header, "{%.*s}", (int) b->header.len, b->header.data ? b->header.data : "");
	stb_bytes(&file, header.data, header.len, b->data.data, b->data.len);
	tb_write(folder, name, file.data, file.len);
	g2_buf_free(&header);
	g2_buf_free(&file);
	g2_buf_free(&b->header);
	g2_buf_free(&b->data);
}

/* ---- errors */

#define EXPECT_ERROR(err, wanted, part) \
	do { \
		if ((err).code != (wanted) || !strstr((err).message, part)) \
			print_error("got %d \"%s\", wanted %d with \"%s\"\n", (err).code, (err).message, \
						wanted, part); \
		assert_int_equal((err).code, wanted); \
		assert_non_null(strstr((err).message, part)); \
		assert_int_equal(g2_utf8_valid_prefix((err).message, strlen((err).message)), \
						 strlen((err).message)); \
	} while (0)

#define EXPECT_OK(done, err) \
	do { \
		if (!(done)) \
		{ \
			print_error("%s %s (%s)\n", g2_sqlstate((err).code), (err).message, (err).detail); \
			fail(); \
		} \
	} while (0)

#endif							/* ST_BUILDER_H */
