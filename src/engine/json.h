/*
 * json.h: cJSON behind the checks that untrusted files need.
 */
#ifndef G2_JSON_H
#define G2_JSON_H

#include <cjson/cJSON.h>

#include "util.h"

#define G2_JSON_MAX_DEPTH 64
#define G2_JSON_MAX_VALUES (1 << 18)	/* about 128 bytes each once cJSON holds them */
#define G2_JSON_EXCERPT 64

/*
 * Parses text[0..len) (need not end in NUL; a BOM is skipped) as one JSON value with nothing after
 * it but white space.  Refused with 22032, the path and the byte offset: syntax errors, invalid
 * UTF-8, a NUL (also as \u0000), a number of more than 63 characters, nesting deeper than
 * G2_JSON_MAX_DEPTH, a lone surrogate in a \u escape, and (when no_duplicates) a key that occurs
 * twice in one object.  More than G2_JSON_MAX_VALUES values: 53400.  cJSON_Delete the result.
 */
extern cJSON *g2_json_parse(const char *path, const char *text, size_t len, bool no_duplicates,
							g2_error *err);

/* An optional file folder/name of at most max_bytes that holds one object, in which no key occurs
 * twice; *json stays NULL where there is none. */
extern bool g2_json_read(const char *folder, const char *name, size_t max_bytes, cJSON **json,
						 g2_error *err);

/*
 * One flat object of name -> integer (vocab.json), without a tree in memory: entry is called for
 * each member in the file's order, with the decoded key (valid UTF-8, good until it returns) and
 * the byte offset of the member; it returns false, with err filled, to stop.  Checks as above, but
 * for repeated keys, which the caller must look for.  Integers beyond int64 are given as its ends.
 */
typedef bool (*g2_json_int_entry) (void *arg, const char *key, size_t key_len, int64_t value,
								   size_t offset, g2_error *err);
extern bool g2_json_each_int(const char *path, const char *text, size_t len,
							 g2_json_int_entry entry, void *arg, g2_error *err);

/* What of s[0..n) can stand in a message: cut at a character, no control character, always valid
 * UTF-8.  Returns buf. */
extern const char *g2_json_excerpt(char buf[G2_JSON_EXCERPT], const char *s, size_t n);

/* Integer member of an object.  Missing or null: *out = fallback when has_fallback, else 22032.  A
 * fraction, a string, or a value outside lo..hi: 22032 naming path, key and range; so is anything
 * from 2^53 on, which a double does not hold exactly. */
extern bool g2_json_int(const cJSON *object, const char *path, const char *key, int64_t lo,
						int64_t hi, bool has_fallback, int64_t fallback, int64_t *out,
						g2_error *err);

/* Finite number member; the same rules. */
extern bool g2_json_double(const cJSON *object, const char *path, const char *key, double lo,
						   double hi, bool has_fallback, double fallback, double *out,
						   g2_error *err);

/* Boolean member with a default for missing or null; another type is 22032. */
extern bool g2_json_bool(const cJSON *object, const char *path, const char *key, bool fallback,
						 bool *out, g2_error *err);

/* String member; NULL in *out when absent or null; another type is 22032. */
extern bool g2_json_string(const cJSON *object, const char *path, const char *key,
						   const char **out, g2_error *err);

#endif							/* G2_JSON_H */
