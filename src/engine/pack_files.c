/*
 * pack_files.c: where packs are, what they were made from, and what may be removed.
 *
 * A pack is <name>-<format>-<16 hex of the SHA-256 of the folder's real path>.pack in the pack
 * directory.  While it is written it is <that>.<pid>.<n>.tmp, locked (flock) by its writer: a
 * temporary that can be locked belongs to a dead process, whatever became of its pid.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapter.h"
#include "file.h"
#include "own_json.h"
#include "pack.h"

#define FILES_NAME 200			/* bytes of a model's name that go into the file's name */
#define FILES_ATTEMPTS 100		/* at a name for a temporary file */

/* Every file of a folder that has a say in the result. */
static const char *const files_fixed[] = {
	"config.json", "generation_config.json", "gpt2.json", "merges.txt", "model.safetensors",
	"model.safetensors.index.json", "special_tokens_map.json", "tokenizer.json",
	"tokenizer_config.json", "vocab.json", "vocab.txt",
};

/* ---------------------------------------------------------------- places */

static bool
files_hash_text(const char *text, char out[17], g2_error *err)
{
	uint8_t		digest[G2_HASH];
	g2_hash    *hash = g2_hash_new(err);
	bool		ok;

	if (!hash)
		return false;
	g2_hash_add(hash, text, strlen(text));
	ok = g2_hash_end(hash, digest, err);
	g2_hash_free(hash);
	if (ok)
		g2_hash_hex(digest, 8, out);
	return ok;
}

static int
files_name_length(const char *name)
{
	return (int) g2_utf8_valid_prefix(name, G2_MIN(strlen(name), FILES_NAME));
}

bool
g2_pack_place_make(const g2_model_paths *paths, const char *name, const char *folder,
				   g2_format format, g2_pack_place *place, g2_error *err)
{
	char		real[PATH_MAX],
				hex[17];
	g2_buf		path = {0};

	memset(place, 0, sizeof *place);
	if (!realpath(folder, real))
		return g2_fail_errno(err, errno, "resolve", g2_file_tail(folder));
	if (!files_hash_text(real, hex, err))
		return false;
	g2_buf_printf(&path, "%s/%.*s-%s-%s.pack", paths->pack_directory, files_name_length(name),
				  name, g2_format_name(format), hex);
	place->path = path.data;
	place->folder = g2_strdup(real);
	if (!path.failed && place->folder)
		return true;
	g2_pack_place_free(place);
	return g2_fail_memory(err, PATH_MAX);
}

void
g2_pack_place_free(g2_pack_place *place)
{
	g2_free(place->folder);
	g2_free(place->path);
	memset(place, 0, sizeof *place);
}

/* ---------------------------------------------------------------- states of source files */

static int
files_compare(const void *a, const void *b)
{
	return strcmp(((const g2_pack_file *) a)->name, ((const g2_pack_file *) b)->name);
}

/* Adds the file when it is there. */
static bool
files_add(const char *folder, const char *name, g2_pack_files *files, g2_error *err)
{
	char	   *path = g2_file_path(folder, name);
	struct stat st;
	g2_pack_file *f;
	int			failed;

	if (!path)
		return g2_fail_memory(err, strlen(folder) + strlen(name));
	failed = lstat(path, &st) == 0 ? 0 : errno;
	if (failed && failed != ENOENT)
		g2_fail_errno(err, failed, "stat", g2_file_tail(path));
	g2_free(path);
	if (failed)
		return failed == ENOENT;
	if (files->n == G2_PACK_MAX_FILES || strlen(name) >= sizeof f->name)
		return g2_fail(err, G2_E_LIMIT, "the model \"%s\" has too many files",
					   g2_file_tail(folder));
	f = &files->file[files->n++];
	memset(f, 0, sizeof *f);
	strcpy(f->name, name);
	f->state = g2_file_state_of(&st);
	return true;
}

static bool
files_is_own_json(const g2_pack_file *file)
{
	return strcmp(file->name, G2_OWN_JSON) == 0;
}

static bool
files_is_fixed(const char *name)
{
	for (size_t i = 0; i < G2_LENGTH(files_fixed); i++)
		if (strcmp(name, files_fixed[i]) == 0)
			return true;
	return false;
}

bool
g2_pack_files_read(const char *folder, const char *const *shards, uint32_t n_shards,
				   g2_pack_files *files, g2_error *err)
{
	files->n = 0;
	for (size_t i = 0; i < G2_LENGTH(files_fixed); i++)
		if (!files_add(folder, files_fixed[i], files, err))
			return false;
	for (uint32_t i = 0; i < n_shards; i++)
		if (!files_is_fixed(shards[i]) && !files_add(folder, shards[i], files, err))
			return false;
	if (files->n > 1)
		qsort(files->file, files->n, sizeof files->file[0], files_compare);
	return true;
}

/* The next that counts. */
static const g2_pack_file *
files_next(const g2_pack_file *file, const g2_pack_file *end, bool own_json)
{
	return file < end && !own_json && files_is_own_json(file) ? file + 1 : file;
}

static bool
files_equal(const g2_pack_file *a, uint32_t n_a, const g2_pack_files *b, bool own_json)
{
	const g2_pack_file *a_end = a + n_a,
			   *at = b->file,
			   *end = at + b->n;

	for (;; a++, at++)
	{
		a = files_next(a, a_end, own_json);
		at = files_next(at, end, own_json);
		if (a == a_end || at == end)
			return a == a_end && at == end;
		if (strcmp(a->name, at->name) != 0 || !g2_file_state_equal(&a->state, &at->state))
			return false;
	}
}

bool
g2_pack_files_equal(const g2_pack_file *a, uint32_t n_a, const g2_pack_files *b)
{
	return files_equal(a, n_a, b, true);
}

/* The files of the pack's folder that are there now, g2_free'd by the caller. */
static g2_pack_files *
files_now(const g2_pack_view *view, const char *folder, g2_error *err)
{
	g2_pack_files *now = g2_alloc(sizeof *now);
	const char **shards = g2_alloc_array(view->header->n_files, sizeof *shards);
	bool		ok = now && shards ? true : g2_fail_memory(err, sizeof *now);

	/* the fixed names are looked for anyway; what is left of the old list are shards */
	for (uint32_t i = 0; ok && i < view->header->n_files; i++)
		shards[i] = view->files[i].name;
	ok = ok && g2_pack_files_read(folder, shards, view->header->n_files, now, err);
	g2_free(shards);
	if (ok)
		return now;
	g2_free(now);
	return NULL;
}

bool
g2_pack_is_stale(const g2_pack_view *view, const char *folder, bool *stale, g2_error *err)
{
	const uint32_t n = view->header->n_files;
	g2_pack_files *now = files_now(view, folder, err);

	*stale = false;
	if (!now)
		return false;
	*stale = !files_equal(view->files, n, now, false) ||
		(!files_equal(view->files, n, now, true) && !g2_own_json_is(folder, view->tasks));
	g2_free(now);
	return true;
}

/* config.json and weights are there and can be read. */
static bool
files_is_model(const char *folder)
{
	static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json"};
	char	   *path = g2_file_path(folder, "config.json");
	bool		found = path && access(path, R_OK) == 0,
				readable = false;

	g2_free(path);
	for (size_t i = 0; found && !readable && i < G2_LENGTH(weights); i++)
	{
		path = g2_file_path(folder, weights[i]);
		readable = path && access(path, R_OK) == 0;
		g2_free(path);
	}
	return readable;
}

bool
g2_pack_changed(const g2_pack *pack, const g2_file_state *own_json)
{
	/* what g2_pack_check has seen when the pack was opened; a pack's file never changes */
	const char *map = pack->map;
	const g2_pack_view view = {
		.header = (const void *) map,
		.meta = (const void *) (map + G2_PACK_ALIGN),
		.files = (const void *) (map + G2_PACK_ALIGN + sizeof(g2_pack_meta)),
	};
	const char *folder = view.meta->folder;
	g2_file_state own_now;
	g2_pack_files *now;
	bool		changed;

	if (pack->adapter)
	{
		if (g2_adapter_changed(pack->adapter, own_json))
			return true;
		own_json = &pack->adapter->base_own_json;
	}
	if (!files_is_model(folder) || !(now = files_now(&view, folder, NULL)))
		return false;
	own_now = g2_file_state_at(folder, G2_OWN_JSON);
	changed = !files_equal(view.files, view.header->n_files, now, false) ||
		!g2_file_state_equal(&own_now, own_json);
	g2_free(now);
	return changed;
}

/* ---------------------------------------------------------------- temporaries */

bool
g2_pack_fail_place(g2_error *err, int errnum, const char *verb, const char *path)
{
	g2_fail_errno(err, errnum, verb, g2_file_tail(path));
	if (err->code == G2_E_NO_FILE || err->code == G2_E_PERMISSION)
		g2_fail_hint(err, "gpt2.pack_directory must be a directory, or in one, to which the "
					 "server's user may write.");
	return false;
}

/* One attempt; *taken: somebody else had the name, or swept the file away before it was locked. */
static int
files_create_temp(const char *name, bool *taken, g2_error *err)
{
	struct stat st;
	int			fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
						  G2_FILE_MODE);

	*taken = fd < 0 && errno == EEXIST;
	if (fd < 0)
	{
		if (!*taken)
			g2_pack_fail_place(err, errno, "create", name);
		return -1;
	}
	/* a file system without locks: then a sweep cannot lock the file either */
	*taken = (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) ||
		(fstat(fd, &st) == 0 && st.st_nlink == 0);
	if (!*taken)
		return fd;
	unlink(name);
	close(fd);
	return -1;
}

int
g2_pack_temp(const char *path, char **temp, g2_error *err)
{
	static atomic_uint counter;
	bool		taken = true;

	for (int attempt = 0; taken && attempt < FILES_ATTEMPTS; attempt++)
	{
		g2_buf		name = {0};
		int			fd;

		if (!g2_buf_printf(&name, "%s.%ld.%u.tmp", path, (long) getpid(),
						   atomic_fetch_add(&counter, 1)))
		{
			g2_buf_free(&name);
			g2_fail_memory(err, strlen(path));
			return -1;
		}
		fd = files_create_temp(name.data, &taken, err);
		if (fd >= 0)
		{
			*temp = name.data;
			return fd;
		}
		g2_buf_free(&name);
	}
	if (taken)
		g2_fail(err, G2_E_IO, "could not create a temporary file for \"%s\"",
				g2_file_tail(path));
	return -1;
}

static void
files_sweep_temp(const char *path)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		unlink(path);
	close(fd);
}

bool
g2_pack_is_name(const char *file, size_t *name_len)
{
	size_t		len = strlen(file),
				tail = 1 + 16 + 5,
				format_len = 0;
	char		format[16];
	g2_format	ignored;

	if (file[0] == '.' || len <= tail || strcmp(file + len - 5, ".pack") != 0 ||
		file[len - tail] != '-' || strspn(file + len - tail + 1, "0123456789abcdef") != 16)
		return false;
	len -= tail;
	while (format_len < len && file[len - format_len - 1] != '-')
		format_len++;
	if (format_len + 1 >= len || format_len >= sizeof format)
		return false;
	memcpy(format, file + len - format_len, format_len);
	format[format_len] = '\0';
	*name_len = len - format_len - 1;
	return g2_format_from_name(format, &ignored, NULL);
}

static bool
files_is_pack_of(const char *file, const char *name)
{
	size_t		n;

	return g2_pack_is_name(file, &n) && n == (size_t) files_name_length(name) &&
		strncmp(file, name, n) == 0;
}

/* Unlinks a pack whose own record of its source no longer holds. */
static void
files_sweep_pack(const char *path)
{
	g2_pack_view view;
	void	   *map;
	size_t		size;
	int			fd = g2_pack_map(path, &map, &size, NULL);

	if (fd < 0)
		return;
	if (g2_pack_check(map, size, (g2_format) ((g2_pack_header *) map)->format, false, &view, NULL))
	{
		bool		stale;

		if (g2_pack_is_stale(&view, view.meta->folder, &stale, NULL) && stale)
			unlink(path);
		g2_layout_free(&view.layout);
	}
	munmap(map, size);
	close(fd);
}

void
g2_pack_sweep(const g2_model_paths *paths, const char *name, const char *keep)
{
	DIR		   *dir = opendir(paths->pack_directory);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		size_t		len = strlen(entry->d_name);
		bool		temp = len > 4 && strcmp(entry->d_name + len - 4, ".tmp") == 0 &&
			strstr(entry->d_name, ".pack.") != NULL;
		char	   *path;

		if (!temp && !files_is_pack_of(entry->d_name, name))
			continue;
		path = g2_file_path(paths->pack_directory, entry->d_name);
		if (path && temp)
			files_sweep_temp(path);
		else if (path && strcmp(path, keep) != 0)
			files_sweep_pack(path);
		g2_free(path);
	}
	closedir(dir);
}
