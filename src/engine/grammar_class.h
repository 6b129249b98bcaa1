/*
 * grammar_class.h: the characters of a regular expression: sets of them, escapes, [...].  Internal
 * to grammar_regex.c.
 *
 * The functions read text[*at..len), which is valid UTF-8, and move *at behind what they have read.
 * False: nfa->failed is set.
 */
#ifndef G2_GRAMMAR_CLASS_H
#define G2_GRAMMAR_CLASS_H

#include "grammar_nfa.h"

/* Ranges of any number of sets, one set behind the other; free ranges with g2_free. */
typedef struct g2_chars
{
	g2_char_range *ranges;
	uint32_t	n;
	uint32_t	cap;
} g2_chars;

extern bool g2_chars_add(g2_nfa *nfa, g2_chars *chars, uint32_t lo, uint32_t hi);

/* Appends a set: of the character there, of an escape, or of a bracket expression; its ranges
 * ascend and do not overlap. */
extern bool g2_class_char(g2_nfa *nfa, const char *text, size_t len, size_t *at,
						  g2_chars *chars);
extern bool g2_class_escape(g2_nfa *nfa, const char *text, size_t len, size_t *at,
							g2_chars *chars);
extern bool g2_class_bracket(g2_nfa *nfa, const char *text, size_t len, size_t *at,
							 g2_chars *chars);

/* grammar_regex.c: 22023 "what in the regex at character n"; returns false. */
extern bool g2_class_fail(g2_nfa *nfa, const char *text, size_t at, const char *what,
						  const char *hint);

#endif							/* G2_GRAMMAR_CLASS_H */
