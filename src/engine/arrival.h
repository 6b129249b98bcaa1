/*
 * arrival.h: what engine.c needs of arrival.c.
 */
#ifndef G2_ARRIVAL_H
#define G2_ARRIVAL_H

#include "engine_state.h"

/* A model that is being loaded is for some roles only (registry.h). */
extern bool g2_engine_permits(void *arg, g2_model *model);

/* A load has ended (registry.h): those that waited go on, or get its error. */
extern void g2_engine_loaded(void *arg, g2_model *model);

/* Who has waited for a model for a second is told so; sets loading_tick anew. */
extern void g2_engine_tell_loading(g2_engine *engine);

/* Ends all requests without an answer, or with 57014. */
extern void g2_engine_cancel_all(g2_engine *engine);
extern void g2_engine_disable(g2_engine *engine);

#endif							/* G2_ARRIVAL_H */
