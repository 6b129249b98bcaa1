/*
 * grammar_regex.h: regular expressions, of the kind that PostgreSQL, ECMAScript, Perl and Python
 * have in common: characters, ., [...] with ranges and [:classes:], \d \w \s and their opposites,
 * \n \t \xHH \x{...} \uHHHH, (...), (?:...), |, * + ? {n} {n,} {n,m} (lazy ones too: what matches
 * is the same).  Letters and digits of \d \w \s are those of ASCII; . is any character but the line
 * ends \n, \r, U+2028 and U+2029.  The whole text must match, so that ^ and $ stand at the ends of
 * the expression or of its alternatives only, and mean nothing there.
 *
 * What is not regular (back references), looks around, or depends on more than the characters
 * (\b, flags, \p{...}) is refused.
 */
#ifndef G2_GRAMMAR_REGEX_H
#define G2_GRAMMAR_REGEX_H

#include "grammar_nfa.h"

#define G2_REGEX_MAX_DEPTH 200	/* of parentheses */
#define G2_REGEX_MAX_REPEAT 1000	/* in {n,m} */

typedef enum g2_regex_mode
{
	G2_REGEX_WHOLE,				/* all of the text */
	G2_REGEX_SEARCH				/* some part of it, but for ^ and $: JSON schema's `pattern` */
} g2_regex_mode;

/*
 * The automaton in front of `next` for the expression text[0..len), its characters written in this
 * form.  Sets nfa->failed with 22023 that names the character (counted from 1) at which it is
 * malformed or asks for what is not supported, 54000 where it is too deep or too large.
 */
extern uint32_t g2_regex_compile(g2_nfa *nfa, const char *text, size_t len, g2_regex_mode mode,
								 g2_char_form form, uint32_t next);

#endif							/* G2_GRAMMAR_REGEX_H */
