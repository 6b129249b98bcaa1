/*
 * memory.h: arrays of a training: floats that start on a cache line, in huge pages where the system
 * has them (products read columns of weights, whose rows are on as many pages otherwise).
 */
#ifndef G2T_MEMORY_H
#define G2T_MEMORY_H

#include "util.h"

#define G2T_ALIGN 64			/* bytes */

/* n zeros; NULL without memory. */
extern float *g2t_floats(size_t n);

/* NULL is nothing to do. */
extern void g2t_floats_free(float *floats);

#endif							/* G2T_MEMORY_H */
