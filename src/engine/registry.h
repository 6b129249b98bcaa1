/*
 * registry.h: the models that the engine has loaded, is loading, or failed to load.
 *
 * A load runs on a helper thread of its own queue and belongs to the engine: the requests that
 * wait for it may come and go.  A load's thread reads name and format and shares packing_bytes,
 * progress and cancel (atomics); everything else is the engine's thread's.
 *
 * Before anything else a load reads who may use the model: where nobody who waits may, it goes no
 * further, unless the model is to be preloaded.
 *
 * A loaded model goes when it is unloaded, when another takes its name (another format, changed
 * files), or when nobody holds it and the loaded models have more than model_memory; who holds it
 * keeps it until it is released.
 *
 * Files: registry.c (the list, holding, settings), registry_load.c (one load), model_roles.c.
 */
#ifndef G2_REGISTRY_H
#define G2_REGISTRY_H

#include "group.h"
#include "helper.h"
#include "kv.h"
#include "model.h"
#include "model_roles.h"
#include "protocol_watch.h"

#define G2_LOOK_US 1000000		/* how long a look at a model's files is good for */

typedef struct g2_registry g2_registry;

typedef struct g2_model
{
	struct g2_model *next;
	g2_registry *registry;
	char	   *name;
	g2_format	format;
	g2_model_state state;
	const char *place;			/* where it was to be loaded: "auto", "cpu", "cuda" */
	bool		detached;		/* no longer found, freed with its last user */
	uint32_t	users;			/* requests that hold it */
	uint64_t	used;			/* rank of its last use among all uses of models */
	int64_t		load_started;	/* monotonic microseconds */
	int64_t		looked_at;		/* likewise: last look whether its files are others now */
	int64_t		loaded_at;		/* wall clock, microseconds since 1970 */
	int64_t		last_used_at;
	_Atomic uint64_t packing_bytes; /* > 0: this load packs the folder first */
	g2_progress progress;
	atomic_bool cancel;
	g2_error	error;			/* state FAILED */
	/* state LOADED */
	g2_pack    *pack;
	g2_backend_model *device_model;
	g2_kv		kv;
	g2_work		work;
	g2_role_list roles;			/* who may use it; known before the load begins in earnest */
} g2_model;

/* Called on the engine's thread when a model that is being loaded turns out to be for some roles
 * only: whether somebody waits for it who may use it.  Those who may not are to release it. */
typedef bool (*g2_permits_fn) (void *arg, g2_model *model);

/* Called on the engine's thread when a load has ended, well (LOADED) or not (FAILED). */
typedef void (*g2_loaded_fn) (void *arg, g2_model *model);

/* Where models are now; to be given back on the engine's thread. */
typedef struct g2_shared_paths g2_shared_paths;

typedef struct g2_registry_options
{
	const g2_backend_api *api;
	g2_backend *backend;
	g2_kv_pool *kv_pool;		/* of all models on the CPU */
	g2_kv_pool *device_pool;	/* of those on a device of its own */
	int			event_fd;
	g2_permits_fn permits;
	g2_loaded_fn loaded;
	void	   *arg;
	/* A line for the log about what the registry does by itself; NULL = nobody reads them. */
	void		(*log) (void *arg, g2_level level, const char *message);
} g2_registry_options;

extern bool g2_registry_open(const g2_registry_options *options, g2_registry **out,
							 g2_error *err);
extern void g2_registry_close(g2_registry *registry);

extern g2_shared_paths *g2_registry_hold_paths(g2_registry *registry);
extern const g2_model_paths *g2_shared_paths_get(const g2_shared_paths *paths);
extern void g2_shared_paths_release(g2_shared_paths *paths);	/* NULL is allowed */

/* Copies what concerns models.  Paths and default format are for loads from now on; models that
 * nobody holds go when there are more than model_memory allows; models to be preloaded that are
 * not there are loaded, one after the other. */
extern bool g2_registry_configure(g2_registry *registry, const g2_settings *settings,
								  g2_error *err);

/* Takes the results of loads that have ended. */
extern void g2_registry_collect(g2_registry *registry);

/* The model, loaded or loading (a load is started when there is none, and when the files of the
 * one that is loaded are others now), held until released.  format may be empty: that of the
 * settings; device may be NULL: wherever it is. */
extern bool g2_registry_hold(g2_registry *registry, g2_span name, g2_span format,
							 const char *device, g2_model **out, g2_error *err);
extern void g2_registry_release(g2_model *model);

/* New requests no longer find it; its memory goes with its last user.  A load that runs is
 * cancelled.  42704 when it is not there. */
extern bool g2_registry_unload(g2_registry *registry, g2_span name, g2_error *err);

/* The first of the list of models (linked by next), for rows and counters. */
extern g2_model *g2_registry_models(const g2_registry *registry);

/* Appends the payload of ROLES. */
extern void g2_model_roles_encode(const g2_model *model, g2_writer *w);

#endif							/* G2_REGISTRY_H */
