/*
 * prefix.h: what identifies the contents of a full KV block: a chain of SHA-256 over the block's
 * own tokens and all that came before.
 *
 * The chain starts from who may share (model's content, format, database, user, salt), so that
 * nobody finds what others computed, nor learns by timing that they did.  SHA-256 because tokens
 * are chosen by users: equal hashes are taken for equal contents.
 */
#ifndef G2_PREFIX_H
#define G2_PREFIX_H

#include "backend.h"
#include "protocol.h"

#define G2_MAX_SALT 256			/* bytes of gpt2.prefix_cache_salt */

typedef struct g2_prefix
{
	uint8_t		hash[32];
} g2_prefix;

/* The chain's start.  False: SHA-256 cannot be had, and nothing can be cached. */
extern bool g2_prefix_root(const char *content_hash, g2_format format, uint32_t database,
						   uint32_t current_user, g2_span salt, g2_prefix *out);

/* The chain's next link: of a block with these G2_BLOCK tokens behind `before`. */
extern bool g2_prefix_next(const g2_prefix *before, const uint32_t *tokens, g2_prefix *out);

#endif							/* G2_PREFIX_H */
