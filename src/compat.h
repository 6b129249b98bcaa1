/*
 * compat.h: what differs between PostgreSQL 13 and 18, in one place.
 */
#ifndef GPT2_COMPAT_H
#define GPT2_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 130000
#error "gpt2 needs PostgreSQL 13 or later"
#endif

#endif							/* GPT2_COMPAT_H */
