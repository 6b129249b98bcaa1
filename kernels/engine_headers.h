/*
 * engine_headers.h: what the CUDA back end shares with the engine, as C that C++ can call.
 */
#ifndef G2_ENGINE_HEADERS_H
#define G2_ENGINE_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C"
{
#endif

#include "backend.h"
#include "error.h"
#include "plan_check.h"
#include "plan_queue.h"
#include "sampler.h"
#include "util.h"
#include "weights.h"

#ifdef __cplusplus
}
#endif

#endif							/* G2_ENGINE_HEADERS_H */
