/*
 * pack_open.c: maps a model's pack, packing the folder first when there is none that can be used.
 *
 * A g2_pack owns its mapping; weights and tokenizer point into it.  The mapping is shared and
 * read-only, so that every process that has the model open uses the same memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapter.h"
#include "config.h"
#include "file.h"
#include "own_json.h"
#include "pack.h"
#include "protocol_watch.h"

#define OPEN_ATTEMPTS 3

static const char *const format_names[G2_FORMATS] = {G2_FORMAT_NAMES};

const char *
g2_format_name(g2_format format)
{
	return (size_t) format < G2_LENGTH(format_names) ? format_names[format] : "unknown";
}

bool
g2_format_from_name(const char *name, g2_format *format, g2_error *err)
{
	for (size_t i = 0; i < G2_LENGTH(format_names); i++)
		if (strcmp(name, format_names[i]) == 0)
		{
			*format = (g2_format) i;
			return true;
		}
	g2_fail(err, G2_E_PARAM, "weight format \"%.32s\" is not known", name);
	return g2_fail_hint(err, "Formats are \"q8\", \"q4\", \"bf16\" and \"f32\".");
}

/* What somebody else can write may say anything, or be cut short under the mapping. */
static bool
open_check(int fd, const char *path, size_t *size, g2_error *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return g2_fail(err, G2_E_PERMISSION, "\"%s\" is not a regular file", g2_file_tail(path));
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
	{
		g2_fail(err, G2_E_PERMISSION, "packed file \"%s\" can be written by another user",
				g2_file_tail(path));
		return g2_fail_hint(err, "Remove it, or choose another gpt2.pack_directory.");
	}
	if (st.st_size < G2_PACK_ALIGN)
		return g2_fail(err, G2_E_BAD_FILE, "damaged packed file: it is too short");
	*size = (size_t) st.st_size;
	/* A file system without locks has no packs removed either. */
	if (flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return g2_fail(err, G2_E_NO_FILE, "packed file \"%s\" is just being removed",
					   g2_file_tail(path));
	return true;
}

int
g2_pack_map(const char *path, void **map, size_t *size, g2_error *err)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	*map = NULL;
	if (fd < 0)
	{
		g2_fail_errno(err, errno, "open", g2_file_tail(path));
		return -1;
	}
	if (open_check(fd, path, size, err))
	{
		*map = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
		if (*map != MAP_FAILED)
			return fd;
		g2_fail_errno(err, errno, "map", g2_file_tail(path));
		*map = NULL;
	}
	close(fd);
	return -1;
}

static bool
open_fill(g2_pack *pack, const g2_pack_view *v, const char *path, g2_error *err)
{
	g2_description *d = &pack->description;
	g2_weights *w = &pack->weights;
	struct stat st;

	if (fstat(pack->fd, &st) != 0)
		return g2_fail_errno(err, errno, "stat", g2_file_tail(path));
	pack->device = (uint64_t) st.st_dev;
	pack->inode = (uint64_t) st.st_ino;
	d->arch = w->arch = v->meta->arch;
	w->format = (g2_format) v->header->format;
	memcpy(d->architecture, v->meta->architecture, sizeof d->architecture);
	memcpy(d->tokenizer, v->meta->tokenizer, sizeof d->tokenizer);
	d->parameters = g2_arch_parameters(&d->arch);
	d->end_token = v->meta->end_token;
	d->start_token = v->meta->start_token;
	d->n_warnings = v->meta->n_warnings;
	memcpy(d->warning, v->meta->warning, sizeof d->warning);
	g2_hash_hex(v->header->content_hash, G2_HASH, pack->content_hash);
	memcpy(pack->vocabulary_hash, pack->content_hash, sizeof pack->vocabulary_hash);
	pack->bytes = v->header->file_size;
	w->layers = g2_alloc_array(w->arch.n_layer, sizeof *w->layers);
	pack->path = g2_strdup(path);
	if (!w->layers || !pack->path || (v->tasks && !(d->tasks = g2_strdup(v->tasks))))
		return g2_fail_memory(err, w->arch.n_layer * sizeof *w->layers);
	g2_layout_bind(&v->layout, v->weights, w);
	return !v->tokenizer ||
		g2_tokenizer_open(v->tokenizer, (size_t) v->header->tokenizer_size, &pack->tokenizer, err);
}

/* See pack_trim.c; that it fails is of no importance. */
static void
note_use(const g2_pack *pack)
{
	(void) futimens(pack->fd, NULL);
}

/*
 * The pack as it lies there.  58P01, 22P03, 55000: there is none that can be used (any of these
 * with the source as it is now); other codes are errors of the attempt itself.
 */
static bool
open_existing(const g2_pack_place *place, g2_format format, g2_pack **out, g2_error *err)
{
	g2_pack    *pack = g2_alloc(sizeof *pack);
	g2_pack_view view;
	bool		ok;

	if (!pack)
		return g2_fail_memory(err, sizeof *pack);
	pack->fd = g2_pack_map(place->path, &pack->map, &pack->map_size, err);
	if (pack->fd < 0)
	{
		g2_free(pack);
		return false;
	}
	ok = g2_pack_check(pack->map, pack->map_size, format, false, &view, err);
	if (ok)
	{
		bool		stale;

		ok = g2_pack_is_stale(&view, place->folder, &stale, err);
		if (stale)
			ok = g2_fail(err, G2_E_VERSION, "the packed file is not of these files");
		ok = ok && open_fill(pack, &view, place->path, err);
		g2_layout_free(&view.layout);
	}
	if (!ok)
	{
		g2_pack_close(pack);
		return false;
	}
	note_use(pack);
	/* advice only: read ahead, and large pages where the file system has them */
	(void) madvise(pack->map, pack->map_size, MADV_WILLNEED);
	(void) madvise(pack->map, pack->map_size, MADV_HUGEPAGE);
	*out = pack;
	return true;
}

static bool
open_must_pack(const g2_error *err)
{
	return err->code == G2_E_NO_FILE || err->code == G2_E_BAD_FILE ||
		err->code == G2_E_VERSION || err->code == G2_E_BAD_JSON;
}

static bool
open_place(const g2_model_paths *paths, const char *name, const char *folder, g2_format format,
		   g2_pack_place *place, g2_error *err)
{
	if ((size_t) format >= G2_LENGTH(format_names))
		return g2_fail(err, G2_E_UNSUPPORTED, "unknown weight format");
	return g2_pack_place_make(paths, name, folder, format, place, err);
}

/* The pack of a folder with weights of its own. */
static bool
open_folder(const g2_model_paths *paths, const char *name, const char *folder, g2_format format,
			g2_progress *progress, const atomic_bool *cancel, g2_pack **out, g2_error *err)
{
	g2_pack_place place;
	g2_error	why = {0};
	bool		ok,
				go_on = true;

	if (!open_place(paths, name, folder, format, &place, err))
		return false;
	ok = open_existing(&place, format, out, &why);
	/* once, and again when the source or the pack was changed behind our back */
	for (int attempt = 0; !ok && go_on && open_must_pack(&why) && attempt < OPEN_ATTEMPTS;
		 attempt++)
	{
		g2_pack_sweep(paths, name, place.path);
		go_on = g2_pack_write(paths, &place, format, progress, cancel, &why);
		ok = go_on && open_existing(&place, format, out, &why);
	}
	if (!ok && err)
		*err = why;
	g2_pack_place_free(&place);
	return ok;
}

/* The base's pack, with the adapter of the folder. */
static bool
open_adapter(const g2_model_paths *paths, const char *name, const char *folder, g2_format format,
			 g2_progress *progress, const atomic_bool *cancel, g2_pack **out, g2_error *err)
{
	g2_adapter_config config;
	g2_file_state own_json;
	g2_pack    *pack;
	char	   *base;
	bool		ok;

	if (!g2_adapter_config_read(folder, &config, err) ||
		!g2_adapter_find_base(paths, name, &config, &base, err))
		return false;
	own_json = g2_file_state_at(base, G2_OWN_JSON);
	ok = open_folder(paths, config.base, base, format, progress, cancel, &pack, err);
	if (ok)
	{
		ok = g2_adapter_attach(pack, name, folder, &config, base, &own_json, cancel, err);
		if (ok)
			*out = pack;
		else
			g2_pack_close(pack);
	}
	g2_free(base);
	return ok;
}

bool
g2_pack_open(const g2_model_paths *paths, const char *name, g2_format format,
			 g2_progress *progress, const atomic_bool *cancel, g2_pack **out, g2_error *err)
{
	char	   *folder;
	bool		ok;

	if (!g2_model_find(paths, name, &folder, err))
		return false;
	ok = (g2_adapter_is(folder) ? open_adapter : open_folder) (paths, name, folder, format,
															   progress, cancel, out, err);
	g2_free(folder);
	return ok;
}

void
g2_pack_close(g2_pack *pack)
{
	if (!pack)
		return;
	g2_tokenizer_close(pack->tokenizer);
	g2_description_free(&pack->description);
	g2_free(pack->weights.layers);
	g2_adapter_free(pack->adapter);
	g2_free(pack->path);
	note_use(pack);
	munmap(pack->map, pack->map_size);
	close(pack->fd);
	g2_free(pack);
}

const char *
g2_pack_base(const g2_pack *pack)
{
	return pack->adapter ? pack->adapter->config.base : "";
}

uint64_t
g2_pack_own_bytes(const g2_pack *pack)
{
	return pack->adapter ? pack->adapter->bytes : pack->bytes;
}

bool
g2_pack_shares(const g2_pack *a, const g2_pack *b)
{
	return a->device == b->device && a->inode == b->inode;
}

bool
g2_pack_verify(const g2_pack *pack, g2_error *err)
{
	g2_pack_view v;
	uint64_t	sum = 0;

	if (!g2_pack_check(pack->map, pack->map_size, pack->weights.format, false, &v, err))
		return false;
	for (uint32_t i = 0; i < v.layout.n; i++)
	{
		const g2_layout_tensor *t = &v.layout.tensor[i];

		sum += g2_pack_sum(v.weights + t->offset, (size_t) (t->bytes / 4), t->offset / 4);
	}
	g2_layout_free(&v.layout);
	if (sum != v.header->weights_sum)
		return g2_fail(err, G2_E_BAD_FILE, "damaged packed file \"%s\": checksum of the weights",
					   g2_file_tail(pack->path));
	return true;
}

/* The folder whose pack it would be, and its model's name; NULL: there is none. */
static char *
packed_folder(const g2_model_paths *paths, const char *name, g2_adapter_config *config)
{
	char	   *folder,
			   *base = NULL;

	strcpy(config->base, "");
	if (!g2_model_find(paths, name, &folder, NULL))
		return NULL;
	if (!g2_adapter_is(folder))
		return folder;
	if (!g2_adapter_config_read(folder, config, NULL) ||
		!g2_adapter_find_base(paths, name, config, &base, NULL))
		base = NULL;
	g2_free(folder);
	return base;
}

bool
g2_pack_missing(const g2_model_paths *paths, const char *name, g2_format format, uint64_t *bytes)
{
	g2_adapter_config config;
	g2_pack_place place;
	g2_pack_view view;
	char	   *folder = packed_folder(paths, name, &config);
	void	   *map;
	size_t		size;
	int			fd;
	bool		missing = true;

	*bytes = 0;
	if (!folder)
		return true;
	if (!open_place(paths, config.base[0] ? config.base : name, folder, format, &place, NULL))
	{
		g2_free(folder);
		return true;
	}
	g2_free(folder);
	fd = g2_pack_map(place.path, &map, &size, NULL);
	if (fd >= 0)
	{
		if (g2_pack_check(map, size, format, false, &view, NULL))
		{
			if (!g2_pack_is_stale(&view, place.folder, &missing, NULL))
				missing = true;
			g2_layout_free(&view.layout);
		}
		munmap(map, size);
		close(fd);
	}
	if (missing && !g2_pack_estimate(place.folder, format, bytes, NULL))
		*bytes = 0;
	g2_pack_place_free(&place);
	return missing;
}
