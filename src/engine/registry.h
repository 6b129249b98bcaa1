/*
 * registry.h: the models that the engine has loaded, is loading, or failed to load.
 *
 * A load runs on a helper thread of its own queue and belongs to the engine: the requests that
 * wait for it may come and go.  A load's thread reads name and format and shares packing_bytes,
 * progress and cancel (atomics); everything else is the engine's thread's.
 */
#ifndef G2_REGISTRY_H
#define G2_REGISTRY_H

#include "group.h"
#include "helper.h"
#include "kv.h"
#include "model.h"
#include "protocol.h"

typedef struct g2_registry g2_registry;

typedef struct g2_model
{
	struct g2_model *next;
	g2_registry *registry;
	char	   *name;
	g2_format	format;
	g2_model_state state;
	bool		detached;		/* unloaded: no longer found, freed with its last user */
	uint32_t	users;			/* requests that hold it */
	int64_t		load_started;	/* monotonic microseconds */
	int64_t		loaded_at;		/* wall clock, microseconds since 1970 */
	int64_t		last_used_at;
	_Atomic uint64_t packing_bytes; /* > 0: this load packs the folder first */
	g2_progress progress;
	atomic_bool cancel;
	g2_error	error;			/* state FAILED */
	g2_pack    *pack;
	g2_backend_model *device_model;
	g2_kv		kv;
	g2_work		work;
} g2_model;

/* Called on the engine's thread when a load has ended, well (LOADED) or not (FAILED). */
typedef void (*g2_loaded_fn) (void *arg, g2_model *model);

typedef struct g2_registry_options
{
	const g2_backend_api *api;
	g2_backend *backend;
	g2_kv_pool *kv_pool;		/* of all models together */
	int			event_fd;
	g2_loaded_fn loaded;
	void	   *arg;
} g2_registry_options;

extern bool g2_registry_open(const g2_registry_options *options, g2_registry **out,
							 g2_error *err);
extern void g2_registry_close(g2_registry *registry);

/* Copies the paths and the default format for loads from now on. */
extern bool g2_registry_configure(g2_registry *registry, const g2_settings *settings,
								  g2_error *err);

/* Takes the results of loads that have ended. */
extern void g2_registry_collect(g2_registry *registry);

/* The model, loaded or loading (a load is started when there is none), held until released.
 * format may be empty: that of the settings. */
extern bool g2_registry_hold(g2_registry *registry, g2_span name, g2_span format,
							 g2_model **out, g2_error *err);
extern void g2_registry_release(g2_model *model);

/* New requests no longer find it; its memory goes with its last user.  A load that runs is
 * cancelled.  42704 when it is not there. */
extern bool g2_registry_unload(g2_registry *registry, g2_span name, g2_error *err);

/* The first of the list of models (linked by next), for rows and counters. */
extern g2_model *g2_registry_models(const g2_registry *registry);

#endif							/* G2_REGISTRY_H */
