/*
 * session_user.h: what the engine is told about who asks.
 */
#ifndef GPT2_SESSION_USER_H
#define GPT2_SESSION_USER_H

#include "postgres.h"

#include "engine/protocol.h"

/* Looks who the session's user is and what its limits are: a number that is another one whenever
 * the engine must be told again, and never 0.  Needs a transaction. */
extern uint64 gpt2_session_version(void);

/* Appends the payload of a SESSION message, as of the last gpt2_session_version. */
extern void gpt2_session_encode(g2_writer *w);

/* Has this role the privileges of one of these, or of the owner (as every superuser has)? */
extern bool gpt2_is_member(Oid role, const g2_roles *roles);

#endif							/* GPT2_SESSION_USER_H */
