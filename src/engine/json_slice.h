/*
 * json_slice.h: large JSON texts without a tree in memory.
 */
#ifndef G2_JSON_SLICE_H
#define G2_JSON_SLICE_H

#include "json.h"

/* One value inside a text that has been checked as a whole. */
typedef struct g2_json_slice
{
	const char *path;			/* for messages */
	const char *text;			/* all of it */
	size_t		begin;
	size_t		end;
} g2_json_slice;

/* Checks a text as g2_json_parse does, but for repeated keys; 53400 for over eight million
 * values. */
extern bool g2_json_whole(const char *path, const char *text, size_t len, g2_json_slice *out,
						  g2_error *err);

/* Calls fn for each member or element in its order, until it returns false with err filled.  The
 * decoded key is good until fn returns.  Repeated keys are the caller's to find. */
typedef bool (*g2_json_member_fn) (void *arg, const char *key, size_t key_len,
								   const g2_json_slice *value, g2_error *err);
typedef bool (*g2_json_element_fn) (void *arg, size_t index, const g2_json_slice *value,
									g2_error *err);
extern bool g2_json_each_member(const g2_json_slice *object, g2_json_member_fn fn, void *arg,
								g2_error *err);
extern bool g2_json_each_element(const g2_json_slice *array, g2_json_element_fn fn, void *arg,
								 g2_error *err);

/* As g2_json_each_int. */
extern bool g2_json_slice_ints(const g2_json_slice *object, g2_json_int_entry entry, void *arg,
							   g2_error *err);

/* The decoded string, in place of what out held. */
extern bool g2_json_slice_string(const g2_json_slice *value, g2_buf *out, g2_error *err);

/* A tree as g2_json_parse makes it; offsets in its messages count from the slice's start. */
extern cJSON *g2_json_slice_tree(const g2_json_slice *value, g2_error *err);

#endif							/* G2_JSON_SLICE_H */
