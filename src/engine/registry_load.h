/*
 * registry_load.h: loading one model; private to registry.c and registry_load.c.
 */
#ifndef G2_REGISTRY_LOAD_H
#define G2_REGISTRY_LOAD_H

#include "registry.h"

#define G2_BYTES_PER_MB 1048576.0	/* as settings count */

/* Where models and packs live, in memory of its own, shared by the settings of the registry and
 * the loads that were started under them.  Never changed; users is the engine's thread's. */
struct g2_shared_paths
{
	g2_model_paths paths;
	uint32_t	users;
	char	   *copies[G2_MAX_DIRECTORIES + 1];
};

extern g2_shared_paths *g2_shared_paths_new(const g2_settings *settings, g2_error *err);

typedef struct g2_loader
{
	const g2_registry_options *options;
	g2_helper  *helper;			/* one thread: loads are disk-bound, one after the other */
	g2_helper  *filler;			/* one thread: opened packs to a device; NULL where none wants it */
	/* On the engine's thread. */
	bool		(*asked) (g2_model *model); /* its roles are known: whether it is to be loaded */
	void		(*dropped) (g2_model *model);	/* it is not; it is FAILED */
	void		(*ended) (g2_model *model);	/* it is LOADED or FAILED */
} g2_loader;

/* Starts the load of a model that is neither LOADED nor LOADING; false: its state stays. */
extern bool g2_loader_start(const g2_loader *loader, g2_model *model, g2_shared_paths *paths,
							g2_error *err);

/* Removes packs above the limit (of gpt2.pack_cache_size), soon. */
extern void g2_loader_trim(const g2_loader *loader, g2_shared_paths *paths, uint64_t limit);

/* Frees a model that is not LOADING, with all that loading has given it. */
extern void g2_loader_free(const g2_loader *loader, g2_model *model);

extern char *g2_span_dup(g2_span s);	/* NULL: no memory */

#endif							/* G2_REGISTRY_LOAD_H */
