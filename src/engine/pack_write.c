/*
 * pack_write.c: makes a packed file out of a model's folder.
 *
 * Phases: note the state of the source's files; read config and tokenizer; check the headers of
 * the weights; check the disk's space; convert into a temporary file; look whether the source is
 * still what it was; write the header; fsync, rename, fsync the directory.  Whatever fails, the
 * temporary file is removed and an existing pack stays as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "describe.h"
#include "file.h"
#include "folder.h"
#include "own_json.h"
#include "pack.h"
#include "pack_convert.h"

#define WRITE_ATTEMPTS 3		/* when the source changes meanwhile */

_Static_assert(sizeof(g2_pack_header) <= G2_PACK_ALIGN, "the header has one page");

typedef struct write_state
{
	const g2_model_paths *paths;
	const g2_pack_place *place;
	g2_format	format;
	g2_progress *progress;
	const atomic_bool *cancel;
	g2_description description;
	g2_buf		tokenizer;
	g2_layout	layout;
	g2_source	list;			/* names only */
	const char **shards;		/* the same names */
	g2_source	source;
	g2_pack_files *files;
	g2_pack_header header;
	char	   *temp;			/* name of the temporary file, NULL = none yet */
	int			fd;
} write_state;

/* ---------------------------------------------------------------- before the first byte */

/* The files' state is noted before anything is taken from them, so that a change after that shows
 * at the end. */
static bool
write_prepare(write_state *w, g2_error *err)
{
	const char *folder = w->place->folder;
	g2_config	config;

	/* The architecture first: nobody should go and look for weights of one that is not supported. */
	if (!g2_folder_check(folder, err) || !g2_describe_config(folder, &config, err) ||
		!g2_source_list(folder, &w->list, err))
		return false;
	w->shards = g2_alloc_array(w->list.n, sizeof *w->shards);
	w->files = g2_alloc(sizeof *w->files);
	if (!w->shards || !w->files)
		return g2_fail_memory(err, sizeof *w->files);
	for (uint32_t i = 0; i < w->list.n; i++)
		w->shards[i] = w->list.file[i].name;
	return g2_pack_files_read(folder, w->shards, w->list.n, w->files, err) &&
		g2_model_describe(folder, &w->description, &w->tokenizer, err) &&
		g2_layout_make(&w->description.arch, w->format, &w->layout, err) &&
		g2_source_open(folder, &w->layout, &w->source, err);
}

static void
write_sizes(write_state *w)
{
	g2_pack_header *h = &w->header;

	memcpy(h->magic, G2_PACK_MAGIC, sizeof h->magic);
	h->byte_order = G2_PACK_BYTE_ORDER;
	h->version = G2_PACK_VERSION;
	h->arithmetic = G2_ARITHMETIC_VERSION;
	h->layout = G2_LAYOUT_ID;
	h->format = (uint32_t) w->format;
	h->n_files = w->files->n;
	h->tasks_size = w->description.tasks ? strlen(w->description.tasks) + 1 : 0;
	h->meta_size = sizeof(g2_pack_meta) + w->files->n * sizeof(g2_pack_file) + h->tasks_size;
	h->tokenizer_offset = G2_ROUND_UP(G2_PACK_ALIGN + h->meta_size, G2_PACK_ALIGN);
	h->tokenizer_size = w->tokenizer.len;
	h->weights_offset = G2_ROUND_UP(h->tokenizer_offset + h->tokenizer_size, G2_PACK_ALIGN);
	h->weights_size = w->layout.bytes;
	h->file_size = h->weights_offset + h->weights_size;
}

static bool
write_fail_space(const g2_model_paths *paths, uint64_t need, uint64_t free_bytes,
				 uint64_t reserve, g2_error *err)
{
	g2_fail(err, G2_E_DISK_FULL, "not enough disk space in \"%s\" to pack the model",
			g2_file_tail(paths->pack_directory));
	g2_fail_detail(err, "The packed file needs %llu bytes; %llu are free, and %llu must stay "
				   "free.", (unsigned long long) need, (unsigned long long) free_bytes,
				   (unsigned long long) reserve);
	return g2_fail_hint(err, "Free some space, or let gpt2.pack_directory name a directory on "
						"another file system.");
}

static bool
write_check_space(const g2_model_paths *paths, uint64_t need, g2_error *err)
{
	struct statvfs fs;
	g2_file_space space;
	uint64_t	with_reserve;

	if (mkdir(paths->pack_directory, G2_DIRECTORY_MODE) != 0 && errno != EEXIST)
		return g2_pack_fail_place(err, errno, "create directory", paths->pack_directory);
	if (statvfs(paths->pack_directory, &fs) != 0)
		return g2_fail_errno(err, errno, "stat the file system of",
							 g2_file_tail(paths->pack_directory));
	space = g2_file_space_of(&fs, paths->keep_free);
	if (need < G2_PACK_SMALL)
		space.reserve = need;
	if (__builtin_add_overflow(need, space.reserve, &with_reserve) ||
		space.free_bytes < with_reserve)
		return write_fail_space(paths, need, space.free_bytes, space.reserve, err);
	return true;
}

/* The temporary file at its full size, so that a full disk shows before the work. */
static bool
write_create(write_state *w, g2_error *err)
{
	uint64_t	size = w->header.file_size;
	int			failed;

	w->fd = g2_pack_temp(w->place->path, &w->temp, err);
	if (w->fd < 0)
		return false;
	do
		failed = fallocate(w->fd, 0, 0, (off_t) size);
	while (failed && errno == EINTR);
	if (!failed)
		return true;
	if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
		return write_fail_space(w->paths, size, 0, 0, err);
	if (ftruncate(w->fd, (off_t) size) != 0)	/* a file system without fallocate */
		return g2_fail_errno(err, errno, "extend", g2_file_tail(w->temp));
	return true;
}

/* ---------------------------------------------------------------- the pass over the source */

static const g2_safetensors *
write_weights_file(const write_state *w, const char *name)
{
	for (uint32_t i = 0; i < w->source.n; i++)
		if (strcmp(w->source.file[i].name, name) == 0)
			return w->source.file[i].st;
	return NULL;
}

static bool
write_files(write_state *w, g2_converter *c, g2_error *err)
{
	for (uint32_t i = 0; i < w->files->n; i++)
	{
		const g2_pack_file *f = &w->files->file[i];
		const g2_safetensors *st = write_weights_file(w, f->name);
		const char *tasks = w->description.tasks;

		if (strcmp(f->name, G2_OWN_JSON) == 0)
		{
			/* of this one only what has a say in results */
			if (tasks)
			{
				g2_hash_name(c->hash, f->name, strlen(tasks));
				g2_hash_add(c->hash, tasks, strlen(tasks));
			}
			continue;
		}
		g2_hash_name(c->hash, f->name, f->state.size);
		if (st ? !g2_convert_weights(c, st, err)
			: !g2_convert_other(c, w->place->folder, f->name, f->state.size, err))
			return false;
	}
	return g2_hash_end(c->hash, w->header.content_hash, err);
}

static bool
write_weights(write_state *w, g2_error *err)
{
	g2_converter c = {
		.fd = w->fd, .path = w->temp, .layout = &w->layout, .source = &w->source,
		.weights_offset = w->header.weights_offset, .progress = w->progress,
		.cancel = w->cancel,
	};
	uint32_t   *by_name = g2_source_sort(&w->layout, err);
	bool		ok;

	c.by_name = by_name;
	c.hash = by_name ? g2_hash_new(err) : NULL;
	ok = c.hash && g2_convert_start(&c, err);
	if (w->progress)
	{
		uint64_t	total = 0;

		for (uint32_t i = 0; i < w->files->n; i++)
			if (strcmp(w->files->file[i].name, G2_OWN_JSON) != 0)
				total += w->files->file[i].state.size;
		atomic_store(&w->progress->done, 0);
		atomic_store(&w->progress->total, total);
	}
	ok = ok && write_files(w, &c, err);
	w->header.weights_sum = c.sum;
	g2_convert_end(&c);
	g2_hash_free(c.hash);
	g2_free(by_name);
	return ok;
}

/* ---------------------------------------------------------------- the header */

static void
write_meta(const write_state *w, char *at)
{
	const g2_description *d = &w->description;
	g2_pack_meta *meta = (g2_pack_meta *) at;

	meta->arch = d->arch;
	memcpy(meta->architecture, d->architecture, sizeof meta->architecture);
	memcpy(meta->tokenizer, d->tokenizer, sizeof meta->tokenizer);
	meta->end_token = d->end_token;
	meta->start_token = d->start_token;
	meta->n_warnings = d->n_warnings;
	memcpy(meta->warning, d->warning, sizeof meta->warning);
	strcpy(meta->folder, w->place->folder); /* a real path: below PATH_MAX */
	at += sizeof *meta;
	memcpy(at, w->files->file, w->files->n * sizeof(g2_pack_file));
	at += w->files->n * sizeof(g2_pack_file);
	if (d->tasks)
		memcpy(at, d->tasks, w->header.tasks_size);
}

static bool
write_header(write_state *w, g2_error *err)
{
	g2_pack_header *h = &w->header;
	size_t		size = (size_t) h->weights_offset;
	char	   *head = g2_alloc(size);
	g2_hash    *hash = g2_hash_new(err);
	bool		ok = head && hash;

	if (!head)
		g2_fail_memory(err, size);
	if (ok)
	{
		write_meta(w, head + G2_PACK_ALIGN);
		if (w->tokenizer.len)
			memcpy(head + h->tokenizer_offset, w->tokenizer.data, w->tokenizer.len);
		g2_hash_add(hash, head + h->tokenizer_offset, (size_t) h->tokenizer_size);
		ok = g2_hash_end(hash, h->tokenizer_hash, err);
	}
	if (ok)
	{
		memset(h->checksum, 0, sizeof h->checksum);
		memcpy(head, h, sizeof *h);
		ok = g2_pack_checksum(head, h->meta_size, h->checksum, err);
		memcpy(head, h, sizeof *h);
	}
	ok = ok && g2_file_pwrite(w->fd, w->temp, head, size, 0, err);
	g2_hash_free(hash);
	g2_free(head);
	return ok;
}

/* ---------------------------------------------------------------- the end */

static bool
write_publish(write_state *w, g2_error *err)
{
	if (fsync(w->fd) != 0)
		return g2_fail_errno(err, errno, "fsync", g2_file_tail(w->temp));
	if (rename(w->temp, w->place->path) != 0)
		return g2_fail_errno(err, errno, "rename", g2_file_tail(w->temp));
	g2_free(w->temp);
	w->temp = NULL;
	return g2_file_sync_directory(w->place->path, err);
}

/* True when the source is still what it was at the start; *changed tells that from an error. */
static bool
write_check_source(write_state *w, bool *changed, g2_error *err)
{
	g2_pack_files *now = g2_alloc(sizeof *now);
	bool		ok;

	if (!now)
		return g2_fail_memory(err, sizeof *now);
	ok = g2_pack_files_read(w->place->folder, w->shards, w->list.n, now, err);
	if (ok && !g2_pack_files_equal(w->files->file, w->files->n, now))
	{
		*changed = true;
		g2_fail(err, G2_E_IO, "the files of the model in \"%s\" changed while it was being packed",
				g2_file_tail(w->place->folder));
		ok = g2_fail_hint(err, "Retry when they are complete.");
	}
	g2_free(now);
	return ok;
}

static void
write_free(write_state *w)
{
	if (w->temp)
		unlink(w->temp);
	if (w->fd >= 0)
		close(w->fd);
	g2_free(w->temp);
	g2_free(w->shards);
	g2_free(w->files);
	g2_source_close(&w->source);
	g2_source_close(&w->list);
	g2_layout_free(&w->layout);
	g2_buf_free(&w->tokenizer);
	g2_description_free(&w->description);
}

static bool
write_once(write_state *w, bool *changed, g2_error *err)
{
	bool		ok = write_prepare(w, err);

	if (ok)
	{
		write_sizes(w);
		ok = write_check_space(w->paths, w->header.file_size, err) && write_create(w, err) &&
			write_weights(w, err);
		/* a change explains a failure of the steps above better than they do */
		if (ok || (err && err->code != G2_E_CANCELED && err->code != G2_E_DISK_FULL &&
				   err->code != G2_E_MEMORY))
		{
			g2_error	why;

			if (!write_check_source(w, changed, &why))
			{
				if (err && (ok || *changed))
					*err = why;
				ok = false;
			}
		}
	}
	ok = ok && write_header(w, err) && write_publish(w, err);
	write_free(w);
	return ok;
}

bool
g2_pack_write(const g2_model_paths *paths, const g2_pack_place *place, g2_format format,
			  g2_progress *progress, const atomic_bool *cancel, g2_error *err)
{
	bool		ok = false,
				changed = true;

	for (int attempt = 0; !ok && changed && attempt < WRITE_ATTEMPTS; attempt++)
	{
		write_state w = {
			.paths = paths, .place = place, .format = format, .progress = progress,
			.cancel = cancel, .fd = -1,
		};

		changed = false;
		ok = write_once(&w, &changed, err);
	}
	return ok;
}

bool
g2_pack_estimate(const char *folder, g2_format format, uint64_t *bytes, g2_error *err)
{
	g2_buf		text = {0};
	g2_config	config;
	g2_layout	layout = {0};
	bool		ok = g2_file_read(folder, "config.json", G2_MAX_JSON_FILE, &text, err) &&
	g2_config_parse("config.json", text.data, text.len, &config, err) &&
	g2_layout_make(&config.arch, format, &layout, err);

	if (ok)
		*bytes = layout.bytes;
	g2_layout_free(&layout);
	g2_buf_free(&text);
	return ok;
}
