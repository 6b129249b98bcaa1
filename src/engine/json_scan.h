/*
 * json_scan.h: reads untrusted JSON without building anything.  Internal to json.c
 * and json_slice.c.
 *
 * No recursion, time linear in the text, no memory but the list of keys where it is asked for.
 * The text belongs to the caller and must outlive the scan; g2_scan.keys must be freed with
 * g2_free by whoever set keep_keys.  Every function that returns false has filled err.
 */
#ifndef G2_JSON_SCAN_H
#define G2_JSON_SCAN_H

#include "json.h"

typedef struct g2_scan_key
{
	const char *raw;			/* after the opening quote */
	uint32_t	object;			/* serial number of the object it is in */
	uint32_t	hash;			/* of the decoded key */
} g2_scan_key;

typedef struct g2_scan
{
	const char *path;			/* for messages */
	const char *text;
	size_t		len;
	size_t		pos;
	size_t		n_values;
	size_t		max_values;		/* 0 = G2_JSON_MAX_VALUES */
	g2_error   *err;

	bool		keep_keys;
	g2_scan_key *keys;
	size_t		n_keys;
	size_t		cap_keys;
} g2_scan;

/* 22032 with path and byte offset; returns false. */
extern bool g2_scan_fail(const g2_scan *s, size_t pos, const char *what);

/* Checks the characters of the whole text and skips a BOM. */
extern bool g2_scan_begin(g2_scan *s);

/* One value, however nested; pos moves behind it. */
extern bool g2_scan_value(g2_scan *s);

/* Refuses anything but white space up to the end. */
extern bool g2_scan_end(g2_scan *s);

/* Moves to the next character that is not white space and returns it; -1 at the end. */
extern int	g2_scan_peek(g2_scan *s);

/* Key and colon of a member; *raw is the key's text behind the opening quote. */
extern bool g2_scan_member(g2_scan *s, uint32_t object, const char **raw);

/* A number at pos; *integer: it has neither a fraction nor an exponent. */
extern bool g2_scan_number(g2_scan *s, bool *integer);

/* The next code point of a string that has been accepted; -1 at its closing quote. */
extern int32_t g2_scan_char(const char **raw);

/* Appends the decoded string to out; false only when out has no memory (err is not touched). */
extern bool g2_scan_decode(g2_buf *out, const char *raw);

#endif							/* G2_JSON_SCAN_H */
