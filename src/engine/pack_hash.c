/*
 * pack_hash.c: SHA-256 by libcrypto, and the sum that guards the weights' bytes.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "file.h"
#include "pack.h"

struct g2_hash
{
	EVP_MD_CTX *context;
	bool		failed;
};

g2_hash *
g2_hash_new(g2_error *err)
{
	g2_hash    *hash = g2_alloc(sizeof *hash);

	if (hash)
		hash->context = EVP_MD_CTX_new();
	if (!hash || !hash->context ||
		EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1)
	{
		g2_hash_free(hash);
		g2_fail_memory(err, sizeof *hash);
		return NULL;
	}
	return hash;
}

bool
g2_hash_add(g2_hash *hash, const void *data, size_t n)
{
	if (!hash->failed && EVP_DigestUpdate(hash->context, data, n) != 1)
		hash->failed = true;
	return !hash->failed;
}

void
g2_hash_name(g2_hash *hash, const char *name, uint64_t size)
{
	uint8_t		bytes[8];

	for (int b = 0; b < 8; b++)
		bytes[b] = (uint8_t) (size >> (8 * b));
	g2_hash_add(hash, name, strlen(name) + 1);
	g2_hash_add(hash, bytes, sizeof bytes);
}

bool
g2_hash_file(g2_hash *hash, const char *folder, const char *name, g2_error *err)
{
	char		buffer[65536];
	uint64_t	size;
	ssize_t		n;
	int			fd = g2_file_open(folder, name, &size, err);

	if (fd < 0)
		return false;
	g2_hash_name(hash, name, size);
	while ((n = read(fd, buffer, sizeof buffer)) > 0)
		g2_hash_add(hash, buffer, (size_t) n);
	if (n < 0)
		g2_fail_errno(err, errno, "read", name);
	close(fd);
	return n == 0;
}

bool
g2_hash_end(g2_hash *hash, uint8_t out[G2_HASH], g2_error *err)
{
	unsigned	len = 0;

	if (hash->failed || EVP_DigestFinal_ex(hash->context, out, &len) != 1 || len != G2_HASH)
		return g2_fail(err, G2_E_INTERNAL, "SHA-256 failed");
	return true;
}

void
g2_hash_free(g2_hash *hash)
{
	if (!hash)
		return;
	EVP_MD_CTX_free(hash->context);
	g2_free(hash);
}

void
g2_hash_hex(const uint8_t *hash, size_t n, char *out)
{
	static const char digit[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++)
	{
		out[2 * i] = digit[hash[i] >> 4];
		out[2 * i + 1] = digit[hash[i] & 15];
	}
	out[2 * n] = '\0';
}

bool
g2_pack_checksum(const void *data, uint64_t meta_size, uint8_t out[G2_HASH], g2_error *err)
{
	union
	{
		g2_pack_header header;
		char		bytes[G2_PACK_ALIGN];
	}			first;
	g2_hash    *hash = g2_hash_new(err);
	bool		ok;

	if (!hash)
		return false;
	memcpy(first.bytes, data, sizeof first);
	memset(first.header.checksum, 0, sizeof first.header.checksum);
	g2_hash_add(hash, first.bytes, sizeof first);
	g2_hash_add(hash, (const char *) data + G2_PACK_ALIGN, (size_t) meta_size);
	ok = g2_hash_end(hash, out, err);
	g2_hash_free(hash);
	return ok;
}

/*
 * Words 2i (low) and 2i + 1 (high) are one 64-bit number, which counts times the i-th factor.  The
 * factors are odd, so no change of one word can go unseen.
 */
uint64_t
g2_pack_sum(const void *words, size_t n, uint64_t first)
{
	const uint64_t step = 2 * UINT64_C(0x9E3779B97F4A7C15);
	const char *p = words;
	uint64_t	sum = 0,
				factor = (first / 2) * step + 1,
				pair;
	uint32_t	word;

	if (first % 2 != 0 && n > 0)
	{
		memcpy(&word, p, sizeof word);
		sum += ((uint64_t) word << 32) * factor;
		factor += step;
		p += sizeof word;
		n--;
	}
	for (; n >= 2; n -= 2, p += sizeof pair, factor += step)
	{
		memcpy(&pair, p, sizeof pair);
		sum += pair * factor;
	}
	if (n > 0)
	{
		memcpy(&word, p, sizeof word);
		sum += word * factor;
	}
	return sum;
}
