/*
 * weights_source.c: which files hold a model's weights, and whether they are the weights of the
 * graph that config.json describes.
 *
 * Tensors that the graph has not (attn.bias, attn.masked_bias: constant masks of old checkpoints)
 * are left alone.  Names have the prefix "transformer." when GPT2LMHeadModel was saved and none
 * when GPT2Model was; lm_head.weight never has one.
 */
#include "weights_source.h"

#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "file.h"
#include "folder.h"
#include "json.h"

#define SOURCE_FILE "model.safetensors"
#define SOURCE_INDEX "model.safetensors.index.json"

/* ---------------------------------------------------------------- files */

/* A shard must be a plain name, so that it is in the folder. */
static bool
source_check_file_name(const char *index, const char *name, g2_error *err)
{
	char		excerpt[G2_JSON_EXCERPT];

	if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') || strlen(name) > 255)
		return g2_fail(err, G2_E_PERMISSION,
					   "\"weight_map\" in \"%s\" names \"%s\", which is not a file of the folder",
					   index, g2_json_excerpt(excerpt, name, strlen(name)));
	return true;
}

static bool
source_add(g2_source *source, const char *name, g2_error *err)
{
	if (source->n == G2_SOURCE_MAX_FILES)
		return g2_fail(err, G2_E_LIMIT, "the weights are in more than %d files",
					   G2_SOURCE_MAX_FILES);
	source->file[source->n].name = g2_strdup(name);
	if (!source->file[source->n].name)
		return g2_fail_memory(err, strlen(name));
	source->n++;
	return true;
}

static int
source_compare(const void *a, const void *b)
{
	return strcmp(((const g2_source_file *) a)->name, ((const g2_source_file *) b)->name);
}

/* The distinct files of the index's weight_map. */
static bool
source_read_map(g2_source *source, const cJSON *json, const char *path, g2_error *err)
{
	const cJSON *map = cJSON_GetObjectItemCaseSensitive(json, "weight_map"),
			   *item;

	if (!cJSON_IsObject(map) || !map->child)
		return g2_fail(err, G2_E_BAD_JSON, "\"weight_map\" in \"%s\" must be an object with "
					   "entries", path);
	cJSON_ArrayForEach(item, map)
	{
		uint32_t	i = 0;

		if (!cJSON_IsString(item))
			return g2_fail(err, G2_E_BAD_JSON, "\"weight_map\" in \"%s\" must hold strings", path);
		if (!source_check_file_name(path, item->valuestring, err))
			return false;
		while (i < source->n && strcmp(source->file[i].name, item->valuestring) != 0)
			i++;
		if (i == source->n && !source_add(source, item->valuestring, err))
			return false;
	}
	qsort(source->file, source->n, sizeof *source->file, source_compare);
	return true;
}

static bool
source_read_index(const char *folder, g2_source *source, g2_error *err)
{
	g2_buf		text = {0};
	char	   *path = g2_file_path(folder, SOURCE_INDEX);
	cJSON	   *json = NULL;
	bool		ok = path ? g2_file_read(folder, SOURCE_INDEX, 4 * G2_MAX_JSON_FILE, &text, err)
	: g2_fail_memory(err, strlen(folder));

	if (ok)
	{
		json = g2_json_parse(g2_file_tail(path), text.data, text.len, true, err);
		ok = json && source_read_map(source, json, g2_file_tail(path), err);
	}
	cJSON_Delete(json);
	g2_buf_free(&text);
	g2_free(path);
	return ok;
}

static bool
source_list(const char *folder, g2_source *source, g2_error *err)
{
	source->file = g2_alloc_array(G2_SOURCE_MAX_FILES, sizeof *source->file);
	if (!source->file)
		return g2_fail_memory(err, G2_SOURCE_MAX_FILES * sizeof *source->file);
	if (g2_file_exists(folder, SOURCE_FILE))
		return source_add(source, SOURCE_FILE, err);
	if (g2_file_exists(folder, SOURCE_INDEX))
		return source_read_index(folder, source, err);
	return g2_folder_fail_weights(folder, err);
}

bool
g2_source_list(const char *folder, g2_source *source, g2_error *err)
{
	memset(source, 0, sizeof *source);
	if (source_list(folder, source, err))
		return true;
	g2_source_close(source);
	return false;
}

static bool
source_open_files(const char *folder, g2_source *source, g2_error *err)
{
	uint64_t	tensors = 0;

	for (uint32_t i = 0; i < source->n; i++)
	{
		g2_source_file *file = &source->file[i];

		if (!g2_safetensors_open(folder, file->name, &file->st, err))
			return err && err->code == G2_E_NO_FILE && strcmp(file->name, SOURCE_FILE) != 0 ?
				g2_fail_hint(err, "\"" SOURCE_INDEX "\" names it; copy all files of the model.") :
				false;
		tensors += g2_safetensors_count(file->st);
		if (tensors > G2_ST_MAX_TENSORS)
			return g2_fail(err, G2_E_BAD_FILE, "the weights in \"%s\" are more than %d tensors",
						   g2_file_tail(folder), G2_ST_MAX_TENSORS);
	}
	return true;
}

/* ---------------------------------------------------------------- tensors */

static const g2_tensor *
source_find(const g2_source *source, const char *name, const g2_safetensors **st)
{
	const g2_tensor *found = NULL;

	for (uint32_t i = 0; !found && i < source->n; i++)
	{
		*st = source->file[i].st;
		found = g2_safetensors_find(*st, name);
	}
	return found;
}

static void
source_full_name(const g2_source *source, const g2_layout_tensor *want, char name[80])
{
	bool		head = strcmp(want->name, "lm_head.weight") == 0;

	snprintf(name, 80, "%s%s", head ? "" : source->prefix, want->name);
}

/* "[768, 2304]" */
static const char *
source_shape(char out[64], uint32_t rank, const uint64_t *shape)
{
	size_t		len = 0;

	out[len++] = '[';
	for (uint32_t i = 0; i < rank && len < 58; i++)
		len += (size_t) snprintf(out + len, 60 - len, "%s%llu", i ? ", " : "",
								 (unsigned long long) shape[i]);
	len = G2_MIN(len, 59);
	memcpy(out + len, "]", 2);
	return out;
}

static bool
source_fail_shape(const g2_layout_tensor *want, const char *name, const g2_tensor *t,
				  const char *path, g2_error *err)
{
	const uint64_t vector[1] = {want->cols},
				matrix[2] = {want->rows, want->cols};
	char		have[64],
				expected[64];

	source_shape(have, t->rank, t->shape);
	source_shape(expected, want->rank, want->rank == 1 ? vector : matrix);
	if (strcmp(want->name, "wte.weight") == 0 && t->rank == 2 && t->shape[1] == want->cols)
		return g2_fail(err, G2_E_BAD_FILE, "\"vocab_size\" is %llu in \"config.json\", but tensor "
					   "\"%s\" (byte %llu) of \"%s\" has %llu rows",
					   (unsigned long long) want->rows, name, (unsigned long long) t->begin,
					   g2_file_tail(path), (unsigned long long) t->shape[0]);
	g2_fail(err, G2_E_BAD_FILE,
			"tensor \"%s\" (byte %llu) of \"%s\" has shape %s, expected %s", name,
			(unsigned long long) t->begin, g2_file_tail(path), have, expected);
	if (want->rank == 2 && t->rank == 2 && t->shape[0] == want->cols && t->shape[1] == want->rows)
		g2_fail_detail(err, "The tensor is transposed; GPT-2 stores these matrices as inputs by "
					   "outputs.");
	return false;
}

static bool
source_check_tensor(const g2_source *source, const char *folder, const g2_layout_tensor *want,
					g2_error *err)
{
	const g2_safetensors *st = NULL,
			   *other = NULL;
	const g2_tensor *t;
	char		name[80];

	source_full_name(source, want, name);
	t = source_find(source, name, &st);
	if (!t)
		return g2_fail(err, G2_E_BAD_FILE, "tensor \"%s\" is missing in \"%s\"", name,
					   g2_file_tail(source->n == 1 ? g2_safetensors_path(source->file[0].st)
									: folder));
	for (uint32_t i = 0; i < source->n; i++)
		if (source->file[i].st != st && g2_safetensors_find(source->file[i].st, name))
			other = source->file[i].st;
	if (other)
		return g2_fail(err, G2_E_BAD_FILE, "tensor \"%s\" is in two files, \"%s\" too", name,
					   g2_file_tail(g2_safetensors_path(other)));
	if (t->rank != want->rank || t->shape[want->rank - 1] != want->cols ||
		(want->rank == 2 && t->shape[0] != want->rows))
		return source_fail_shape(want, name, t, g2_safetensors_path(st), err);
	if (t->dtype == G2_DTYPE_OTHER)
	{
		g2_fail(err, G2_E_UNSUPPORTED, "dtype %s of tensor \"%s\" (byte %llu) in \"%s\" is not "
				"supported", t->dtype_name, name, (unsigned long long) t->begin,
				g2_file_tail(g2_safetensors_path(st)));
		return g2_fail_hint(err, "Supported: F32, F16, BF16.");
	}
	return true;
}

bool
g2_source_open(const char *folder, const g2_layout *layout, g2_source *source, g2_error *err)
{
	const g2_safetensors *st;
	bool		ok;

	if (!g2_source_list(folder, source, err))
		return false;
	ok = source_open_files(folder, source, err);
	if (ok)
		source->prefix = source_find(source, "wte.weight", &st) ? "" : "transformer.";
	for (uint32_t i = 0; ok && i < layout->n; i++)
		ok = source_check_tensor(source, folder, &layout->tensor[i], err);
	if (!ok)
		g2_source_close(source);
	return ok;
}

bool
g2_source_read(const g2_source *source, const g2_layout_tensor *want, uint64_t first,
			   uint64_t rows, float *values, g2_error *err)
{
	const g2_safetensors *st;
	const g2_tensor *t;
	char		name[80];

	source_full_name(source, want, name);
	t = source_find(source, name, &st);
	if (!t)
		return g2_fail(err, G2_E_INTERNAL, "tensor \"%s\" is gone", name);
	return g2_safetensors_read(st, t, first * want->cols, rows * want->cols, values, err);
}

void
g2_source_close(g2_source *source)
{
	for (uint32_t i = 0; i < source->n; i++)
	{
		g2_safetensors_close(source->file[i].st);
		g2_free(source->file[i].name);
	}
	g2_free(source->file);
	memset(source, 0, sizeof *source);
}

static int
source_compare_names(const void *a, const void *b, void *arg)
{
	const g2_layout *layout = arg;

	return strcmp(layout->tensor[*(const uint32_t *) a].name,
				  layout->tensor[*(const uint32_t *) b].name);
}

uint32_t *
g2_source_sort(const g2_layout *layout, g2_error *err)
{
	uint32_t   *by_name = g2_alloc_array(layout->n, sizeof *by_name);

	if (!by_name)
	{
		g2_fail_memory(err, layout->n * sizeof *by_name);
		return NULL;
	}
	for (uint32_t i = 0; i < layout->n; i++)
		by_name[i] = i;
	qsort_r(by_name, layout->n, sizeof *by_name, source_compare_names, (void *) layout);
	return by_name;
}

int64_t
g2_source_index(const g2_source *source, const g2_layout *layout, const uint32_t *by_name,
				const char *name)
{
	size_t		skip = strlen(source->prefix);
	uint32_t	lo = 0,
				hi = layout->n;

	if (strcmp(name, "lm_head.weight") != 0)
	{
		if (strncmp(name, source->prefix, skip) != 0)
			return -1;
		name += skip;
		if (strcmp(name, "lm_head.weight") == 0)
			return -1;
	}
	while (lo < hi)
	{
		uint32_t	mid = lo + (hi - lo) / 2;
		int			order = strcmp(name, layout->tensor[by_name[mid]].name);

		if (order == 0)
			return by_name[mid];
		if (order < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}
