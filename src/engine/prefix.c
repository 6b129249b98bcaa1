/*
 * prefix.c: hashes of prefixes.
 */
#include "prefix.h"

#include <openssl/evp.h>

static bool
digest(const void *data, size_t n, g2_prefix *out)
{
	unsigned	len = 0;

	return EVP_Digest(data, n, out->hash, &len, EVP_sha256(), NULL) == 1 &&
		len == sizeof out->hash;
}

bool
g2_prefix_root(const char *content_hash, g2_format format, uint32_t database,
			   uint32_t current_user, g2_span salt, g2_prefix *out)
{
	struct
	{
		char		content[64];
		uint32_t	format;
		uint32_t	database;
		uint32_t	current_user;
		uint32_t	salt_len;
		char		salt[G2_MAX_SALT];
	}			root = {
		.format = format, .database = database, .current_user = current_user,
		.salt_len = salt.len,
	};

	if (salt.len > sizeof root.salt)
		return false;
	memcpy(root.content, content_hash, strnlen(content_hash, sizeof root.content));
	memcpy(root.salt, salt.data, salt.len);
	return digest(&root, sizeof root, out);
}

bool
g2_prefix_next(const g2_prefix *before, const uint32_t *tokens, g2_prefix *out)
{
	struct
	{
		g2_prefix	before;
		uint32_t	tokens[G2_BLOCK];
	}			link = {.before = *before};

	memcpy(link.tokens, tokens, sizeof link.tokens);
	return digest(&link, sizeof link, out);
}
