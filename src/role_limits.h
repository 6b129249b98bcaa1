/*
 * role_limits.h: the limits of the session's user.
 */
#ifndef GPT2_ROLE_LIMITS_H
#define GPT2_ROLE_LIMITS_H

#include "postgres.h"

#include "engine/protocol.h"

/* The limits that hold for this role in this session: what was SET here, else what ALTER ROLE and
 * ALTER DATABASE say, else G2_LIMIT_UNSET (the configuration files count).  Reads catalogs when
 * what it knows is old, so it needs a transaction. */
extern void gpt2_limits_of(Oid role, int64 limits[G2_N_LIMITS]);

#endif							/* GPT2_ROLE_LIMITS_H */
