/*
 * registry_load.c: one load: the model's roles read on the loader's thread; the engine asked
 * whether to go on; the pack opened (and made) on the loader's thread; then the device's part on
 * the engine's.
 *
 * A load in the loader's queue owns itself and holds its paths; the model outlives it, since a
 * model that is LOADING is not freed.
 */
#include "registry_load.h"

#include <stdio.h>

/* ---- paths ---- */

char *
g2_span_dup(g2_span s)
{
	char	   *copy = g2_alloc((size_t) s.len + 1);

	if (copy && s.len > 0)
		memcpy(copy, s.data, s.len);
	return copy;
}

g2_shared_paths *
g2_shared_paths_new(const g2_settings *settings, g2_error *err)
{
	g2_shared_paths *p = g2_alloc(sizeof *p);
	bool		ok = p != NULL;

	if (!ok)
	{
		g2_fail_memory(err, sizeof *p);
		return NULL;
	}
	p->users = 1;
	for (uint32_t i = 0; ok && i < settings->n_directories; i++)
		ok = (p->copies[i] = g2_span_dup(settings->directories[i])) != NULL;
	ok = ok && (p->copies[G2_MAX_DIRECTORIES] = g2_span_dup(settings->pack_directory)) != NULL;
	if (!ok)
	{
		g2_shared_paths_release(p);
		g2_fail_memory(err, settings->pack_directory.len);
		return NULL;
	}
	p->paths.directories = (const char *const *) p->copies;
	p->paths.n_directories = settings->n_directories;
	p->paths.pack_directory = p->copies[G2_MAX_DIRECTORIES];
	p->paths.keep_free = settings->keep_free;
	return p;
}

const g2_model_paths *
g2_shared_paths_get(const g2_shared_paths *p)
{
	return &p->paths;
}

void
g2_shared_paths_release(g2_shared_paths *p)
{
	if (!p || --p->users > 0)
		return;
	for (size_t i = 0; i < G2_LENGTH(p->copies); i++)
		g2_free(p->copies[i]);
	g2_free(p);
}

/* ---- the loader's thread ---- */

typedef struct load
{
	g2_job		job;			/* first */
	const g2_loader *loader;
	g2_model   *model;
	g2_shared_paths *paths;
	/* the thread's until it is done */
	g2_pack    *pack;
	g2_role_list roles;
	bool		ok;
	g2_error	error;
} load;

static void
ask_run(g2_job *job)
{
	load	   *l = (load *) job;
	const char *name = l->model->name;
	char	   *folder;

	l->ok = g2_model_find(&l->paths->paths, name, &folder, &l->error);
	if (!l->ok)
		return;
	l->ok = g2_role_list_read(name, folder, &l->roles, &l->error);
	g2_free(folder);
}

static void
load_run(g2_job *job)
{
	load	   *l = (load *) job;
	g2_model   *model = l->model;
	const g2_model_paths *paths = &l->paths->paths;
	uint64_t	bytes = 0;

	if (g2_pack_missing(paths, model->name, model->format, &bytes))
		atomic_store(&model->packing_bytes, bytes);
	l->ok = g2_pack_open(paths, model->name, model->format, &model->progress, &model->cancel,
						 &l->pack, &l->error);
}

/* ---- the engine's thread ---- */

static bool
place_model(g2_model *model, const g2_registry_options *o, g2_error *err)
{
	if (o->api->place)
		o->api->place(o->backend, model->place);
	return o->api->model_load(o->backend, &model->pack->weights, &model->device_model, err);
}

static bool
open_cache(g2_model *model, const g2_registry_options *o, g2_error *err)
{
	const bool	on_cpu = !o->api->device || strcmp(o->api->device(model->device_model), "cpu") == 0;
	g2_kv_pool *pool = on_cpu ? o->kv_pool : o->device_pool;
	uint32_t	context = g2_blocks_for(model->pack->weights.arch.n_ctx);

	return g2_kv_open(&model->kv, pool, o->api, model->device_model,
					  g2_kv_blocks(pool, o->api, model->device_model, context), err);
}

static void
load_free(load *l)
{
	g2_shared_paths_release(l->paths);
	g2_free(l);
}

/* What stands when the engine closes before its turn comes. */
static void
submit(load *l, g2_helper *helper, void (*run) (g2_job *job), void (*done) (g2_job *job))
{
	l->job = (g2_job) {.run = run, .done = done};
	l->ok = false;
	g2_fail(&l->error, G2_E_CANCELED, "the load of model \"%s\" was cancelled", l->model->name);
	g2_helper_submit(helper, &l->job);
}

/* The last of a load, whether the model can be used or not. */
static void
load_end(load *l, bool ok)
{
	const g2_loader *loader = l->loader;
	const g2_registry_options *o = loader->options;
	g2_model   *model = l->model;

	if (ok)
		model->looked_at = g2_now_us();
	else
	{
		if (model->device_model)
			o->api->model_unload(o->backend, model->device_model);
		model->device_model = NULL;
		g2_pack_close(model->pack);
		model->pack = NULL;
	}
	model->state = ok ? G2_MODEL_LOADED : G2_MODEL_FAILED;
	load_free(l);
	loader->ended(model);
}

/* Whether a step of a load has succeeded and is still wanted; else the model says why not. */
static bool
goes_on(const load *l)
{
	g2_model   *model = l->model;

	model->error = l->error;
	if (l->ok && atomic_load(&model->cancel))
		return g2_fail(&model->error, G2_E_CANCELED, "the load of model \"%s\" was cancelled",
					   model->name);
	return l->ok;
}

static void
fill_run(g2_job *job)
{
	load	   *l = (load *) job;

	l->ok = l->loader->options->api->model_fill(l->model->device_model, &l->model->pack->weights,
												&l->error);
}

static void
fill_done(g2_job *job)
{
	load	   *l = (load *) job;

	load_end(l, goes_on(l) && open_cache(l->model, l->loader->options, &l->model->error));
}

/* Puts an opened pack on the device, which may take long, and gives it room in the KV cache. */
static void
load_done(g2_job *job)
{
	load	   *l = (load *) job;
	g2_model   *model = l->model;
	const g2_registry_options *o = l->loader->options;

	model->pack = l->pack;
	if (!goes_on(l) || !place_model(model, o, &model->error))
		load_end(l, false);
	else if (l->loader->filler)
		submit(l, l->loader->filler, fill_run, fill_done);
	else
		load_end(l, open_cache(model, o, &model->error));
}

static void
ask_done(g2_job *job)
{
	load	   *l = (load *) job;
	const g2_loader *loader = l->loader;
	g2_model   *model = l->model;

	model->roles = l->roles;
	if (!l->ok || atomic_load(&model->cancel))
		load_done(job);
	else if (loader->asked(model))
		submit(l, loader->helper, load_run, load_done);
	else
	{
		model->state = G2_MODEL_FAILED;
		load_free(l);
		loader->dropped(model);
	}
}

bool
g2_loader_start(const g2_loader *loader, g2_model *model, g2_shared_paths *paths, g2_error *err)
{
	load	   *l = g2_alloc(sizeof *l);

	if (!l)
		return g2_fail_memory(err, sizeof *l);
	l->loader = loader;
	l->model = model;
	l->paths = paths;
	paths->users++;
	g2_role_list_free(&model->roles);	/* of an attempt before */
	model->state = G2_MODEL_LOADING;
	model->load_started = g2_now_us();
	atomic_store(&model->cancel, false);
	atomic_store(&model->packing_bytes, 0);
	atomic_store(&model->progress.done, 0);
	atomic_store(&model->progress.total, 0);
	submit(l, loader->helper, ask_run, ask_done);
	return true;
}

void
g2_loader_free(const g2_loader *loader, g2_model *model)
{
	const g2_registry_options *o = loader->options;

	if (model->device_model)
	{
		g2_kv_close(&model->kv);
		o->api->model_unload(o->backend, model->device_model);
	}
	g2_role_list_free(&model->roles);
	g2_pack_close(model->pack);
	g2_free(model->name);
	g2_free(model);
}

/* ---- packs above the limit ---- */

typedef struct trim
{
	g2_job		job;			/* first */
	const g2_loader *loader;
	g2_shared_paths *paths;
	uint64_t	limit;
	g2_pack_trimmed removed;
} trim;

static void
trim_run(g2_job *job)
{
	trim	   *t = (trim *) job;

	t->removed = g2_pack_trim(t->paths->paths.pack_directory, t->limit);
}

static void
trim_done(g2_job *job)
{
	trim	   *t = (trim *) job;
	const g2_registry_options *o = t->loader->options;
	char		line[160];

	snprintf(line, sizeof line, "removed %u packed files (%.1f MB) to keep gpt2.pack_cache_size "
			 "(%.1f MB)", t->removed.n, (double) t->removed.bytes / G2_BYTES_PER_MB,
			 (double) t->limit / G2_BYTES_PER_MB);
	if (t->removed.n > 0 && o->log)
		o->log(o->arg, G2_LEVEL_LOG, line);
	g2_shared_paths_release(t->paths);
	g2_free(t);
}

/* Without memory there is another time. */
void
g2_loader_trim(const g2_loader *loader, g2_shared_paths *paths, uint64_t limit)
{
	trim	   *t = g2_alloc(sizeof *t);

	if (!t)
		return;
	*t = (trim) {
		.job = {.run = trim_run, .done = trim_done}, .loader = loader, .paths = paths,
		.limit = limit,
	};
	paths->users++;
	g2_helper_submit(loader->helper, &t->job);
}
