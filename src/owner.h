/*
 * owner.h: the role that a model belongs to (engine/protocol.h has the rule).
 */
#ifndef GPT2_OWNER_H
#define GPT2_OWNER_H

#include "compat.h"

#include "engine/protocol.h"

/* A name out of a model's folder, in UTF-8; InvalidOid = there is no such role here. */
extern Oid	gpt2_role_of_name(g2_span name);

/* InvalidOid: the model belongs to no role that is there. */
extern Oid	gpt2_role_of_owner(const g2_owner *owner);

/* Has `member` the privileges of the role?  Nobody has those of InvalidOid.  As for any privilege,
 * one that does not inherit has to SET ROLE. */
extern bool gpt2_has_privs_of(Oid member, Oid role);

/* What a model of this role says; palloc'd. */
extern g2_owner gpt2_owner_of_role(Oid role);

/* What the gpt2.json of a folder says; none where that cannot be understood. */
extern g2_owner gpt2_folder_owner(const char *folder);

/* Superusers manage any model, who has the privileges of its owner that one; 42501 for others.
 * Returns the owner. */
extern g2_owner gpt2_check_owner(const char *model, const char *folder);

/* 42501 for a user who may not use the model. */
pg_noreturn extern void gpt2_raise_model_denied(const char *model, Oid user);

#endif							/* GPT2_OWNER_H */
