/*
 * import.c: pytorch_model.bin (a zip archive: a pickle that describes tensors, and an entry with
 * the bytes of each storage) to model.safetensors.
 *
 * Phases: list the tensors and find their bytes; write the header and copy the bytes to a file of
 * another name; read its header back; sync; give it its name, which must be free.
 */
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"
#include "file.h"
#include "json.h"
#include "pickle.h"
#include "safetensors.h"
#include "zip.h"

#define CHECKPOINT "pytorch_model.bin"
#define RESULT "model.safetensors"
#define BLOCK (1u << 20)

typedef struct part
{
	const g2_pickle_tensor *t;
	uint64_t	from;			/* in the checkpoint */
	uint64_t	bytes;
} part;

typedef struct importer
{
	g2_zip_source source;
	g2_zip	   *zip;
	char	   *pickle;			/* the names of the tensors are in it */
	g2_pickle_tensor *tensors;
	part	   *parts;
	uint32_t	n_parts;
	uint64_t	bytes;
	g2_error   *err;
} importer;

/* ---------------------------------------------------------------- reading */

/* The entry that ends in "/data.pkl"; *prefix = the length of what is before that. */
static const g2_zip_entry *
find_pickle(const g2_zip *zip, size_t *prefix)
{
	static const char name[] = "/data.pkl";

	for (size_t i = 0; i < g2_zip_count(zip); i++)
	{
		const g2_zip_entry *e = g2_zip_at(zip, i);

		*prefix = e->name_len - G2_MIN(e->name_len, sizeof name - 1);
		if (*prefix > 0 && memcmp(e->name + *prefix, name, sizeof name - 1) == 0 &&
			!memchr(e->name, '/', *prefix))
			return e;
	}
	return NULL;
}

static bool
read_entry(importer *im, const g2_zip_entry *entry, size_t max, char **data)
{
	uint64_t	offset;

	if (entry->size > max)
		return g2_fail(im->err, G2_E_LIMIT, "an entry of \"%s\" has more than %zu bytes",
					   im->source.path, max);
	if (!g2_zip_locate(im->zip, entry, &offset, im->err))
		return false;
	*data = g2_alloc((size_t) entry->size + 1);
	if (!*data)
		return g2_fail_memory(im->err, entry->size);
	return g2_zip_read(&im->source, *data, (size_t) entry->size, offset, im->err);
}

/* prefix/name, or NULL. */
static const g2_zip_entry *
find_entry(const importer *im, const g2_zip_entry *pickle, size_t prefix, const char *folder,
		   const char *name, size_t len)
{
	char		full[G2_ZIP_MAX_NAME + 1];
	int			n = snprintf(full, sizeof full, "%.*s/%s%.*s", (int) prefix, pickle->name, folder,
							 (int) G2_MIN(len, sizeof full), name);

	return n > 0 && (size_t) n < sizeof full ? g2_zip_find(im->zip, full, (size_t) n) : NULL;
}

static bool
check_byte_order(importer *im, const g2_zip_entry *pickle, size_t prefix)
{
	const g2_zip_entry *entry = find_entry(im, pickle, prefix, "", "byteorder", 9);
	char	   *order = NULL;
	bool		ok;

	if (!entry)
		return true;
	ok = read_entry(im, entry, 64, &order);
	if (ok && (entry->size != 6 || memcmp(order, "little", 6) != 0))
		ok = g2_fail(im->err, G2_E_UNSUPPORTED, "\"%s\" is not in little-endian byte order",
					 im->source.path);
	g2_free(order);
	return ok;
}

/* Another name of the same bytes. */
static bool
is_repeated(const importer *im, const g2_pickle_tensor *t)
{
	for (uint32_t i = 0; i < im->n_parts; i++)
	{
		const g2_pickle_tensor *p = im->parts[i].t;

		if (p->key.len == t->key.len && memcmp(p->key.data, t->key.data, t->key.len) == 0 &&
			p->offset == t->offset && p->rank == t->rank &&
			memcmp(p->shape, t->shape, sizeof p->shape) == 0 && p->storage == t->storage)
			return true;
	}
	return false;
}

static bool
add_part(importer *im, const g2_zip_entry *pickle, size_t prefix, const g2_pickle_tensor *t)
{
	const g2_zip_entry *entry = find_entry(im, pickle, prefix, "data/", t->key.data, t->key.len);
	size_t		size = g2_storage_size(t->storage);
	part	   *p = &im->parts[im->n_parts];
	char		excerpt[G2_JSON_EXCERPT];

	g2_json_excerpt(excerpt, t->name.data, t->name.len);
	if (!entry)
		return g2_fail(im->err, G2_E_BAD_FILE, "\"%s\" has no entry with the bytes of tensor "
					   "\"%s\"", im->source.path, excerpt);
	/* the pickle has checked that the tensor is within the storage */
	if (t->storage_count > entry->size / size)
		return g2_fail(im->err, G2_E_BAD_FILE, "\"%s\" has too few bytes for tensor \"%s\"",
					   im->source.path, excerpt);
	if (t->name.len == 0 || t->name.len >= G2_ST_MAX_NAME ||
		g2_utf8_valid_prefix(t->name.data, t->name.len) != t->name.len)
		return g2_fail(im->err, G2_E_BAD_FILE, "\"%s\" has a bad name of a tensor: \"%s\"",
					   im->source.path, excerpt);
	if (is_repeated(im, t))
		return true;
	if (!g2_zip_locate(im->zip, entry, &p->from, im->err))
		return false;
	p->t = t;
	p->from += t->offset * size;
	p->bytes = t->count * size;
	/* a small file could otherwise fill a disk: thousands of views of one storage */
	if (p->bytes > im->source.size - im->bytes)
	{
		g2_fail(im->err, G2_E_UNSUPPORTED, "tensors in \"%s\" are views of the same bytes",
				im->source.path);
		return g2_fail_hint(im->err, "Save the model again with tensors that share nothing.");
	}
	im->bytes += p->bytes;
	im->n_parts++;
	return true;
}

static bool
check_lfs(const importer *im)
{
	char		start[256];
	size_t		n = (size_t) G2_MIN(im->source.size, sizeof start);

	if (!g2_zip_read(&im->source, start, n, 0, im->err))
		return false;
	return !g2_file_is_lfs_pointer(start, n) || g2_file_fail_lfs(im->source.path, im->err);
}

static bool
read_checkpoint(importer *im)
{
	const g2_zip_entry *entry;
	size_t		prefix;
	uint32_t	n;

	if (!g2_zip_open(&im->source, &im->zip, im->err))
		return false;
	entry = find_pickle(im->zip, &prefix);
	if (!entry)
		return g2_fail(im->err, G2_E_UNSUPPORTED, "\"%s\" is no checkpoint of PyTorch: it has no "
					   "data.pkl", im->source.path);
	if (!check_byte_order(im, entry, prefix) ||
		!read_entry(im, entry, G2_PICKLE_MAX, &im->pickle) ||
		!g2_pickle_tensors(im->source.path, im->pickle, (size_t) entry->size, &im->tensors, &n,
						   im->err))
		return false;
	im->parts = g2_alloc_array(n, sizeof *im->parts);
	if (!im->parts)
		return g2_fail_memory(im->err, n * sizeof *im->parts);
	for (uint32_t i = 0; i < n; i++)
		if (!add_part(im, entry, prefix, &im->tensors[i]))
			return false;
	return true;
}

static void
free_importer(importer *im)
{
	g2_zip_close(im->zip);
	g2_free(im->pickle);
	g2_free(im->tensors);
	g2_free(im->parts);
}

bool
g2_import_check(const void *data, size_t len, g2_error *err)
{
	importer	im = {.source = {"checkpoint", -1, data, len},.err = err};
	bool		ok = read_checkpoint(&im);

	free_importer(&im);
	return ok;
}

/* ---------------------------------------------------------------- writing */

/* A name as a JSON string. */
static void
append_name(g2_buf *out, g2_pickle_text name)
{
	g2_buf_append(out, "\"", 1);
	for (size_t i = 0; i < name.len; i++)
	{
		unsigned char c = (unsigned char) name.data[i];

		if (c < 0x20 || c == '"' || c == '\\')
			g2_buf_printf(out, "\\u%04x", c);
		else
			g2_buf_append(out, &c, 1);
	}
	g2_buf_append(out, "\"", 1);
}

/* Length and JSON, filled up with blanks so that the data are aligned. */
static bool
make_header(const importer *im, g2_buf *out)
{
	uint64_t	at = 0,
				len = 0;

	g2_buf_append(out, &len, sizeof len);
	g2_buf_printf(out, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (uint32_t i = 0; i < im->n_parts; i++)
	{
		const part *p = &im->parts[i];

		g2_buf_printf(out, ",");
		append_name(out, p->t->name);
		g2_buf_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", g2_storage_name(p->t->storage));
		for (uint32_t d = 0; d < p->t->rank; d++)
			g2_buf_printf(out, "%s%llu", d ? "," : "", (unsigned long long) p->t->shape[d]);
		g2_buf_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long) at,
					  (unsigned long long) (at + p->bytes));
		at += p->bytes;
	}
	g2_buf_printf(out, "}");
	while (out->len % 8 != 0 && !out->failed)
		g2_buf_append(out, " ", 1);
	if (out->failed)
		return g2_fail_memory(im->err, out->len);
	len = out->len - sizeof len;
	memcpy(out->data, &len, sizeof len);
	return true;
}

static bool
copy_part(const importer *im, const part *p, int fd, const char *path, char *block)
{
	for (uint64_t done = 0; done < p->bytes;)
	{
		size_t		n = (size_t) G2_MIN(p->bytes - done, BLOCK);

		if (!g2_zip_read(&im->source, block, n, p->from + done, im->err) ||
			!g2_file_write(fd, path, block, n, im->err))
			return false;
		done += n;
	}
	return true;
}

static bool
write_file(const importer *im, int fd, const char *path)
{
	g2_buf		header = {0};
	char	   *block = g2_alloc(BLOCK);
	bool		ok = block ? true : g2_fail_memory(im->err, BLOCK);

	ok = ok && make_header(im, &header) &&
		g2_file_write(fd, path, header.data, header.len, im->err);
	for (uint32_t i = 0; ok && i < im->n_parts; i++)
		ok = copy_part(im, &im->parts[i], fd, path, block);
	if (ok && fsync(fd) != 0)
		ok = g2_fail_errno(im->err, errno, "sync", path);
	g2_buf_free(&header);
	g2_free(block);
	return ok;
}

/* The file gets its name by a link, which unlike rename fails when that is taken. */
static bool
publish(const importer *im, const char *folder, const char *name, const char *path)
{
	g2_safetensors *st;
	char	   *final = g2_file_path(folder, RESULT);
	bool		ok;

	if (!final)
		return g2_fail_memory(im->err, strlen(folder));
	ok = g2_safetensors_open(folder, name, &st, im->err);
	if (ok)
		g2_safetensors_close(st);
	if (ok && link(path, final) != 0)
		ok = g2_fail_errno(im->err, errno, "create", final);
	else if (ok && !g2_file_sync_directory(final, im->err))
	{
		unlink(final);
		ok = false;
	}
	g2_free(final);
	return ok;
}

static bool
write_result(const importer *im, const char *folder)
{
	char		name[64];
	char	   *path;
	int			fd;
	bool		ok;

	snprintf(name, sizeof name, "." RESULT ".%ld.tmp", (long) getpid());
	path = g2_file_path(folder, name);
	if (!path)
		return g2_fail_memory(im->err, strlen(folder));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		ok = g2_fail_errno(im->err, errno, "create", path);
	else
	{
		ok = write_file(im, fd, path);
		if (close(fd) != 0 && ok)
			ok = g2_fail_errno(im->err, errno, "close", path);
		ok = ok && publish(im, folder, name, path);
		unlink(path);
	}
	g2_free(path);
	return ok;
}

bool
g2_import(const char *folder, g2_import_result *result, g2_error *err)
{
	importer	im = {.source = {.path = CHECKPOINT},.err = err};
	bool		ok;

	if (g2_file_exists(folder, RESULT))
		return g2_fail(err, G2_E_PARAM, "\"%s\" has a %s already", g2_file_tail(folder), RESULT);
	if (!g2_file_exists(folder, CHECKPOINT) &&
		g2_file_exists(folder, CHECKPOINT ".index.json"))
		return g2_fail(err, G2_E_UNSUPPORTED, "the checkpoint in \"%s\" is divided into parts",
					   g2_file_tail(folder));
	im.source.fd = g2_file_open(folder, CHECKPOINT, &im.source.size, err);
	if (im.source.fd < 0)
		return false;
	ok = check_lfs(&im) && read_checkpoint(&im) && write_result(&im, folder);
	*result = (g2_import_result) {im.n_parts, im.bytes};
	close(im.source.fd);
	free_importer(&im);
	return ok;
}

bool
g2_cmd_import(int argc, char **argv, g2_error *err)
{
	g2_import_result result;

	if (argc != 2)
		return g2_fail(err, G2_E_PARAM, "import takes a folder and nothing else");
	if (!g2_import(argv[1], &result, err))
		return false;
	printf("%s/%s: %u tensors, %llu bytes\n", argv[1], RESULT, result.n_tensors,
		   (unsigned long long) result.bytes);
	return true;
}
