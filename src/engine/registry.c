/*
 * registry.c: loading and unloading models; one copy of each, whoever asks.
 */
#include "registry.h"

#include <stdio.h>
#include <time.h>

struct g2_registry
{
	g2_registry_options options;
	g2_helper  *loader;			/* one thread: loads are disk-bound and run one after the other */
	g2_model   *models;			/* also detached ones, until freed */
	/* settings */
	char	   *directories[G2_MAX_DIRECTORIES];
	uint32_t	n_directories;
	char	   *pack_directory;
	uint64_t	keep_free;
	g2_format	format;
};

static int64_t
wall_clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static char *
span_dup(g2_span s)
{
	char	   *copy = g2_alloc((size_t) s.len + 1);

	if (copy && s.len > 0)
		memcpy(copy, s.data, s.len);
	return copy;
}

static bool
span_is(g2_span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* ---- settings ---- */

static void
free_settings(g2_registry *registry)
{
	for (uint32_t i = 0; i < registry->n_directories; i++)
		g2_free(registry->directories[i]);
	g2_free(registry->pack_directory);
	registry->n_directories = 0;
	registry->pack_directory = NULL;
}

static bool
parse_format(g2_span span, g2_format *format, g2_error *err)
{
	char		name[16];

	snprintf(name, sizeof name, "%.*s", (int) G2_MIN(span.len, sizeof name), span.data);
	if (g2_format_from_name(name, format))
		return true;
	g2_fail(err, G2_E_PARAM, "weight format \"%s\" is not known", name);
	return g2_fail_hint(err, "This version has the format \"f32\".");
}

bool
g2_registry_configure(g2_registry *registry, const g2_settings *settings, g2_error *err)
{
	g2_registry fresh = {.format = G2_FORMAT_F32, .keep_free = settings->keep_free};

	if (settings->weight_format.len > 0 &&
		!parse_format(settings->weight_format, &fresh.format, err))
		return false;
	fresh.pack_directory = span_dup(settings->pack_directory);
	while (fresh.n_directories < settings->n_directories)
	{
		char	   *copy = span_dup(settings->directories[fresh.n_directories]);

		if (!copy)
			break;
		fresh.directories[fresh.n_directories++] = copy;
	}
	if (!fresh.pack_directory || fresh.n_directories < settings->n_directories)
	{
		free_settings(&fresh);
		return g2_fail_memory(err, settings->pack_directory.len);
	}
	free_settings(registry);
	memcpy(registry->directories, fresh.directories, sizeof fresh.directories);
	registry->n_directories = fresh.n_directories;
	registry->pack_directory = fresh.pack_directory;
	registry->keep_free = fresh.keep_free;
	registry->format = fresh.format;
	return true;
}

/* ---- loading ---- */

/* What a load's thread works with: copies, since settings may change meanwhile. */
typedef struct load_paths
{
	g2_model_paths paths;
	char	   *copies[G2_MAX_DIRECTORIES + 1];
} load_paths;

static void
load_paths_free(load_paths *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < G2_LENGTH(p->copies); i++)
		g2_free(p->copies[i]);
	g2_free(p);
}

static load_paths *
load_paths_copy(const g2_registry *registry)
{
	load_paths *p = g2_alloc(sizeof *p);

	if (!p)
		return NULL;
	for (uint32_t i = 0; i < registry->n_directories; i++)
		if (!(p->copies[i] = g2_strdup(registry->directories[i])))
		{
			load_paths_free(p);
			return NULL;
		}
	if (!(p->copies[G2_MAX_DIRECTORIES] = g2_strdup(registry->pack_directory)))
	{
		load_paths_free(p);
		return NULL;
	}
	p->paths.directories = (const char *const *) p->copies;
	p->paths.n_directories = registry->n_directories;
	p->paths.pack_directory = p->copies[G2_MAX_DIRECTORIES];
	p->paths.keep_free = registry->keep_free;
	return p;
}

typedef struct load
{
	g2_job		job;			/* first */
	g2_model   *model;
	load_paths *paths;
	g2_pack    *pack;
	bool		done;
	g2_error	error;
} load;

static void
load_run(g2_job *job)
{
	load	   *l = (load *) job;
	uint64_t	bytes = 0;

	if (g2_pack_missing(&l->paths->paths, l->model->name, l->model->format, &bytes))
		atomic_store(&l->model->packing_bytes, bytes);
	l->done = g2_pack_open(&l->paths->paths, l->model->name, l->model->format,
						   &l->model->progress, &l->model->cancel, &l->pack, &l->error);
}

static void
model_unlink(g2_model *model)
{
	g2_model  **at = &model->registry->models;

	while (*at != model)
		at = &(*at)->next;
	*at = model->next;
}

static void
model_free(g2_model *model)
{
	const g2_registry_options *o = &model->registry->options;

	if (model->device_model)
	{
		g2_kv_close(&model->kv);
		o->api->model_unload(o->backend, model->device_model);
	}
	g2_pack_close(model->pack);
	g2_free(model->name);
	g2_free(model);
}

/* Frees a model that can no longer be found and that nobody holds. */
static void
model_free_if_unused(g2_model *model)
{
	if (!model->detached || model->users > 0 || model->state == G2_MODEL_LOADING)
		return;
	model_unlink(model);
	model_free(model);
}

/* Puts an opened pack on the device and gives it room in the KV cache. */
static bool
model_start(g2_model *model, g2_error *err)
{
	const g2_registry_options *o = &model->registry->options;
	size_t		block_bytes;
	uint64_t	n_blocks,
				context = g2_blocks_for(model->pack->weights.arch.n_ctx);

	if (!o->api->model_load(o->backend, &model->pack->weights, &model->device_model, err))
		return false;
	block_bytes = o->api->kv_block_bytes(model->device_model);
	n_blocks = o->kv_pool->budget / block_bytes;
	n_blocks = G2_MIN(G2_MAX(n_blocks, context), (uint64_t) 1 << 24);
	if (g2_kv_open(&model->kv, o->kv_pool, o->api, model->device_model, (uint32_t) n_blocks,
				   err))
		return true;
	o->api->model_unload(o->backend, model->device_model);
	model->device_model = NULL;
	return false;
}

static void
load_done(g2_job *job)
{
	load	   *l = (load *) job;
	g2_model   *model = l->model;
	bool		ok = l->done && !atomic_load(&model->cancel);

	model->pack = l->pack;
	model->error = l->error;
	if (ok)
		ok = model_start(model, &model->error);
	else if (l->done)
		g2_fail(&model->error, G2_E_CANCELED, "the load of model \"%s\" was cancelled",
				model->name);
	if (ok)
		model->loaded_at = model->last_used_at = wall_clock_us();
	else
	{
		g2_pack_close(model->pack);
		model->pack = NULL;
	}
	model->state = ok ? G2_MODEL_LOADED : G2_MODEL_FAILED;
	/* Names that are no models would pile up in the list otherwise. */
	if (!ok && model->error.code == G2_E_NOT_FOUND)
		model->detached = true;
	load_paths_free(l->paths);
	g2_free(l);
	/* The callback's requests release the model one by one: keep it until they have. */
	model->users++;
	model->registry->options.loaded(model->registry->options.arg, model);
	g2_registry_release(model);
}

static bool
start_load(g2_model *model, g2_error *err)
{
	g2_registry *registry = model->registry;
	load	   *l = g2_alloc(sizeof *l);

	if (!l || !(l->paths = load_paths_copy(registry)))
	{
		g2_free(l);
		return g2_fail_memory(err, sizeof *l);
	}
	l->job.run = load_run;
	l->job.done = load_done;
	l->model = model;
	/* What stands when the engine closes before its turn comes. */
	g2_fail(&l->error, G2_E_CANCELED, "the load of model \"%s\" was cancelled", model->name);
	model->state = G2_MODEL_LOADING;
	model->load_started = g2_now_us();
	atomic_store(&model->cancel, false);
	atomic_store(&model->packing_bytes, 0);
	atomic_store(&model->progress.done, 0);
	atomic_store(&model->progress.total, 0);
	g2_helper_submit(registry->loader, &l->job);
	return true;
}

/* ---- the list ---- */

static g2_model *
find(g2_registry *registry, g2_span name)
{
	for (g2_model *m = registry->models; m; m = m->next)
		if (!m->detached && span_is(name, m->name))
			return m;
	return NULL;
}

static bool
add(g2_registry *registry, g2_span name, g2_format format, g2_model **out, g2_error *err)
{
	g2_model   *model;

	if (!g2_model_name_check(name.data, name.len, err))
		return false;
	model = g2_alloc(sizeof *model);
	if (!model || !(model->name = span_dup(name)))
	{
		g2_free(model);
		return g2_fail_memory(err, sizeof *model);
	}
	model->registry = registry;
	model->format = format;
	model->next = registry->models;
	registry->models = model;
	*out = model;
	return true;
}

bool
g2_registry_hold(g2_registry *registry, g2_span name, g2_span format_name, g2_model **out,
				 g2_error *err)
{
	g2_format	format = registry->format;
	g2_model   *model = find(registry, name);

	if (format_name.len > 0 && !parse_format(format_name, &format, err))
		return false;
	if (model && format_name.len > 0 && model->format != format)
	{
		/* Loaded in another format: running requests keep theirs. */
		model->detached = true;
		model_free_if_unused(model);
		model = NULL;
	}
	if (!model && !add(registry, name, format, &model, err))
		return false;
	if (model->state == G2_MODEL_FAILED)
		model->format = format;	/* the setting may have changed since */
	if (model->state != G2_MODEL_LOADED && model->state != G2_MODEL_LOADING &&
		!start_load(model, err))
	{
		/* No memory: a name that was added for this call alone is not kept. */
		model->detached = model->state != G2_MODEL_FAILED;
		model_free_if_unused(model);
		return false;
	}
	model->users++;
	model->last_used_at = wall_clock_us();
	*out = model;
	return true;
}

void
g2_registry_release(g2_model *model)
{
	model->users--;
	model_free_if_unused(model);
}

bool
g2_registry_unload(g2_registry *registry, g2_span name, g2_error *err)
{
	g2_model   *model = find(registry, name);

	if (!model)
	{
		g2_fail(err, G2_E_NOT_FOUND, "model \"%.*s\" is not loaded", (int) G2_MIN(name.len, 255u),
				name.data);
		return g2_fail_hint(err, "See gpt_models for the models and their states.");
	}
	atomic_store(&model->cancel, true);
	model->detached = true;
	model_free_if_unused(model);
	return true;
}

g2_model *
g2_registry_models(const g2_registry *registry)
{
	return registry->models;
}

void
g2_registry_collect(g2_registry *registry)
{
	g2_helper_collect(registry->loader);
}

bool
g2_registry_open(const g2_registry_options *options, g2_registry **out, g2_error *err)
{
	g2_registry *registry = g2_alloc(sizeof *registry);

	if (!registry)
		return g2_fail_memory(err, sizeof *registry);
	registry->options = *options;
	if (!g2_helper_open(1, options->event_fd, &registry->loader, err))
	{
		g2_free(registry);
		return false;
	}
	*out = registry;
	return true;
}

void
g2_registry_close(g2_registry *registry)
{
	if (!registry)
		return;
	for (g2_model *m = registry->models; m; m = m->next)
	{
		atomic_store(&m->cancel, true);
		m->users++;				/* nothing is freed under the loop below */
	}
	g2_helper_close(registry->loader);
	for (g2_model *m = registry->models, *next; m; m = next)
	{
		next = m->next;
		model_free(m);
	}
	free_settings(registry);
	g2_free(registry);
}
