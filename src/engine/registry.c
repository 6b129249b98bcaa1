/*
 * registry.c: which models there are; one copy of each, whoever asks.
 *
 * The list holds detached models too, until their last user is gone; of those that are not
 * detached no two have the same name.
 */
#include "registry_settings.h"

#include <stdarg.h>
#include <stdio.h>

#include "json.h"

struct g2_registry
{
	g2_registry_options options;
	g2_loader	loader;
	g2_model   *models;
	uint64_t	uses;			/* of all models so far */
	g2_registry_settings settings;
	uint32_t	next_preload;	/* index in settings.preload of the next to be looked at */
};

static void registry_log(const g2_registry *registry, g2_level level, const char *fmt, ...)
	G2_PRINTF(3, 4);

static void
registry_log(const g2_registry *registry, g2_level level, const char *fmt, ...)
{
	char		line[1024];
	va_list		ap;

	if (!registry->options.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	registry->options.log(registry->options.arg, level, line);
}

/* ---- the list ---- */

static g2_model *
find(g2_registry *registry, g2_span name)
{
	for (g2_model *m = registry->models; m; m = m->next)
		if (!m->detached && g2_span_is(name, m->name))
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
	if (!model || !(model->name = g2_span_dup(name)))
	{
		g2_free(model);
		return g2_fail_memory(err, sizeof *model);
	}
	model->registry = registry;
	model->format = format;
	model->place = "auto";
	model->next = registry->models;
	registry->models = model;
	*out = model;
	return true;
}

/* After each change of what packs there are, or of which are in use. */
static void
trim_packs(const g2_registry *registry)
{
	const g2_registry_settings *s = &registry->settings;

	if (s->pack_cache_size > 0)
		g2_loader_trim(&registry->loader, s->paths, s->pack_cache_size);
}

/* Frees a model that can no longer be found and that nobody holds. */
static void
free_if_unused(g2_model *model)
{
	g2_registry *registry = model->registry;
	g2_model  **at = &registry->models;
	bool		was_loaded;

	if (!model->detached || model->users > 0 || model->state == G2_MODEL_LOADING)
		return;
	while (*at != model)
		at = &(*at)->next;
	*at = model->next;
	was_loaded = model->state == G2_MODEL_LOADED;
	g2_loader_free(&registry->loader, model);
	if (was_loaded)
		trim_packs(registry);
}

static void
detach(g2_model *model)
{
	model->detached = true;
	free_if_unused(model);
}

static void
note_use(g2_model *model)
{
	model->used = ++model->registry->uses;
	model->last_used_at = g2_wall_clock(g2_now_us());
}

/* Starts a load; a model that was added for it alone is not kept when it cannot be started. */
static bool
start(g2_model *model, g2_error *err)
{
	g2_registry *registry = model->registry;

	if (g2_loader_start(&registry->loader, model, registry->settings.paths, err))
		return true;
	if (model->state != G2_MODEL_FAILED)
		detach(model);
	return false;
}

/* ---- memory ---- */

/* Whether a is to go before b: models that are preloaded last, else by their last use. */
static bool
goes_before(const g2_registry *registry, const g2_model *a, const g2_model *b)
{
	bool		keep_a = g2_is_preloaded(&registry->settings, g2_span_of(a->name)),
				keep_b = g2_is_preloaded(&registry->settings, g2_span_of(b->name));

	return keep_a != keep_b ? keep_b : a->used < b->used;
}

/* Bytes of a model's weights that no model before it in the list has: adapters share their base's
 * pack, whether that is loaded as a model or not. */
static uint64_t
bytes_of(const g2_registry *registry, const g2_model *model)
{
	uint64_t	own = model->pack->adapter ? g2_pack_own_bytes(model->pack) : 0;

	for (const g2_model *m = registry->models; m != model; m = m->next)
		if (m->pack && (m->pack->adapter || model->pack->adapter) &&
			g2_pack_shares(m->pack, model->pack))
			return own;
	return own + model->pack->bytes;
}

/* The model to be unloaded next when memory is short: held by nobody, and not the only one, which
 * may be larger than the limit.  NULL when the limit is kept, or cannot be. */
static g2_model *
surplus(const g2_registry *registry)
{
	uint64_t	bytes = 0;
	uint32_t	n = 0;
	g2_model   *next = NULL;

	for (const g2_model *m = registry->models; m; m = m->next)
		if (m->pack)
		{
			bytes += bytes_of(registry, m);
			n += !m->detached;
		}
	if (registry->settings.model_memory == 0 || bytes <= registry->settings.model_memory || n < 2)
		return NULL;
	for (g2_model *m = registry->models; m; m = m->next)
		if (m->state == G2_MODEL_LOADED && !m->detached && m->users == 0 &&
			(!next || goes_before(registry, m, next)))
			next = m;
	return next;
}

/* Ends before `used`, if not NULL: a model in use now and then does not come and go because another
 * that is held leaves no room. */
static void
keep_limit(g2_registry *registry, const g2_model *used)
{
	g2_model   *model;

	while ((model = surplus(registry)) != NULL && model != used)
	{
		registry_log(registry, G2_LEVEL_LOG, "unloaded model \"%s\" (%.1f MB, not used for %.0f s) "
					 "to keep gpt2.model_memory (%.1f MB)", model->name,
					 (double) g2_pack_own_bytes(model->pack) / G2_BYTES_PER_MB,
					 (double) G2_MAX(g2_wall_clock(g2_now_us()) - model->last_used_at, 0) / 1e6,
					 (double) registry->settings.model_memory / G2_BYTES_PER_MB);
		detach(model);
	}
}

/* ---- loads that nobody waits for ---- */

/* Starts the next load of gpt2.preload_models, once no other is running: so a model that somebody
 * waits for is behind at most one of them. */
static void
preload_next(g2_registry *registry)
{
	g2_registry_settings *s = &registry->settings;

	for (const g2_model *m = registry->models; m; m = m->next)
		if (m->state == G2_MODEL_LOADING)
			return;
	while (registry->next_preload < s->n_preload)
	{
		g2_span		name = g2_span_of(s->preload[registry->next_preload++]);
		g2_model   *model = find(registry, name);
		g2_error	err;
		char		excerpt[G2_JSON_EXCERPT];

		if (model && model->state == G2_MODEL_LOADED)
			continue;
		if (model)
			model->format = s->format;
		if ((model || add(registry, name, s->format, &model, &err)) && start(model, &err))
			return;
		registry_log(registry, G2_LEVEL_WARNING, "could not preload model \"%s\": %s",
					 g2_json_excerpt(excerpt, name.data, name.len), err.message);
	}
}

/* The callback's requests release the model one by one: it is kept until they have. */
static bool
load_asked(g2_model *model)
{
	const g2_registry *registry = model->registry;
	bool		wanted;

	if (!model->roles.restricted || g2_is_preloaded(&registry->settings, g2_span_of(model->name)))
		return true;
	model->users++;
	wanted = registry->options.permits(registry->options.arg, model);
	model->users--;
	return wanted;
}

static void
load_dropped(g2_model *model)
{
	g2_registry *registry = model->registry;

	detach(model);
	preload_next(registry);
}

static void
load_ended(g2_model *model)
{
	g2_registry *registry = model->registry;

	if (model->state == G2_MODEL_LOADED)
	{
		note_use(model);
		model->loaded_at = model->last_used_at;
		trim_packs(registry);
	}
	/* Names that are no models would pile up in the list otherwise. */
	else if (model->error.code == G2_E_NOT_FOUND)
		model->detached = true;
	/* It is kept until the callback's requests have released it, and while there is room made for
	 * it. */
	model->users++;
	registry->options.loaded(registry->options.arg, model);
	keep_limit(registry, NULL);
	model->users--;
	free_if_unused(model);
	preload_next(registry);
}

/* ---- holding ---- */

/* At most one look in G2_LOOK_US. */
static bool
files_changed(g2_model *model)
{
	int64_t		now = g2_now_us();

	if (model->state != G2_MODEL_LOADED || now - model->looked_at < G2_LOOK_US)
		return false;
	model->looked_at = now;
	if (!g2_pack_changed(model->pack, &model->roles.source))
		return false;
	registry_log(model->registry, G2_LEVEL_LOG, "the files of model \"%s\" have changed: loading "
				 "it again", model->name);
	return true;
}

/* Whether it is, or is being loaded, on another device than this one; NULL: any will do. */
static bool
elsewhere(const g2_model *model, const char *device)
{
	const g2_backend_api *api = model->registry->options.api;

	if (!device)
		return false;
	if (model->state == G2_MODEL_LOADED)
		return strcmp(api->device ? api->device(model->device_model) : api->name, device) != 0;
	return model->state == G2_MODEL_LOADING && strcmp(model->place, device) != 0;
}

bool
g2_registry_hold(g2_registry *registry, g2_span name, g2_span format_name, const char *device,
				 g2_model **out, g2_error *err)
{
	g2_format	format = registry->settings.format;
	g2_model   *model = find(registry, name),
			   *old = NULL;		/* gives way to another: who holds it keeps it */

	if (format_name.len > 0 && !g2_format_parse(format_name, &format, err))
		return false;
	if (model && ((format_name.len > 0 && model->format != format) || elsewhere(model, device)))
		old = model;
	else if (model && files_changed(model))
	{
		old = model;
		format = model->format;
	}
	if ((!model || old) && !add(registry, name, format, &model, err))
		return false;
	if (model->state == G2_MODEL_FAILED)
		model->format = format;	/* the setting may have changed since */
	if (model->state != G2_MODEL_LOADED && model->state != G2_MODEL_LOADING)
		model->place = device ? device : "auto";
	if (model->state != G2_MODEL_LOADED && model->state != G2_MODEL_LOADING &&
		!start(model, err))
		return false;
	if (old)
		detach(old);
	model->users++;
	note_use(model);
	*out = model;
	return true;
}

g2_shared_paths *
g2_registry_hold_paths(g2_registry *registry)
{
	registry->settings.paths->users++;
	return registry->settings.paths;
}

void
g2_registry_release(g2_model *model)
{
	g2_registry *registry = model->registry;

	if (--model->users > 0)
		return;
	model->used = ++registry->uses;
	if (!model->detached)
		keep_limit(registry, model);
	else
	{
		free_if_unused(model);
		keep_limit(registry, NULL);
	}
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
	detach(model);
	return true;
}

g2_model *
g2_registry_models(const g2_registry *registry)
{
	return registry->models;
}

void
g2_model_roles_encode(const g2_model *model, g2_writer *w)
{
	g2_roles	roles = {.token = model->roles.token, .n = model->roles.n,
	.owner = model->roles.owner};

	for (uint32_t i = 0; i < roles.n; i++)
		roles.roles[i] = g2_span_of(model->roles.names[i]);
	g2_roles_encode(w, &roles);
}

/* ---- the registry itself ---- */

bool
g2_registry_configure(g2_registry *registry, const g2_settings *settings, g2_error *err)
{
	g2_registry_settings fresh;

	if (!g2_registry_settings_copy(settings, &fresh, err))
		return false;
	g2_registry_settings_free(&registry->settings);
	registry->settings = fresh;
	registry->next_preload = 0;
	trim_packs(registry);
	keep_limit(registry, NULL);
	preload_next(registry);
	return true;
}

void
g2_registry_collect(g2_registry *registry)
{
	g2_helper_collect(registry->loader.helper);
	if (registry->loader.filler)
		g2_helper_collect(registry->loader.filler);
}

bool
g2_registry_open(const g2_registry_options *options, g2_registry **out, g2_error *err)
{
	g2_registry *registry = g2_alloc(sizeof *registry);

	if (!registry)
		return g2_fail_memory(err, sizeof *registry);
	registry->options = *options;
	registry->loader.options = &registry->options;
	registry->loader.asked = load_asked;
	registry->loader.dropped = load_dropped;
	registry->loader.ended = load_ended;
	if (!g2_helper_open(1, options->event_fd, &registry->loader.helper, err) ||
		(options->api->model_fill &&
		 !g2_helper_open(1, options->event_fd, &registry->loader.filler, err)))
	{
		g2_helper_close(registry->loader.helper);
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
	registry->next_preload = registry->settings.n_preload;
	g2_helper_close(registry->loader.helper);
	g2_helper_close(registry->loader.filler);
	for (g2_model *m = registry->models, *next; m; m = next)
	{
		next = m->next;
		g2_loader_free(&registry->loader, m);
	}
	g2_registry_settings_free(&registry->settings);
	g2_free(registry);
}
