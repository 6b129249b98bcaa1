/*
 * cut.h: a text that does not fit into the context: cut at an end, or in parts at good places.
 */
#ifndef G2_CUT_H
#define G2_CUT_H

#include "protocol.h"
#include "text.h"
#include "tokenizer.h"

struct g2_request;

typedef enum g2_cut
{
	G2_CUT_NOT,					/* a text that is too long is an error */
	G2_CUT_LEFT,				/* its beginning is left out */
	G2_CUT_RIGHT				/* its end is */
} g2_cut;

/* Makes request->ids the prompt with this much of the text; false: request->error. */
typedef bool (*g2_cut_encode_fn) (void *arg, g2_span text);

/* Cuts the text, whose prompt is in request->ids, until the prompt has no more than `room` tokens.
 * *fits is false, with no error, where not even the prompt without a text has so few. */
extern bool g2_cut_text(struct g2_request *request, g2_span text, g2_cut side, size_t room,
						g2_cut_encode_fn encode, void *arg, bool *fits);

/* Keeps `keep` of the ids, the `first` first ones among them. */
extern void g2_cut_ids(g2_ids *ids, g2_cut side, size_t first, size_t keep);

/* Bytes of the text's first n tokens, up to a whole character; near them where decoding does not
 * give the text back.  ids are the text's. */
extern bool g2_cut_bytes(struct g2_request *request, g2_span text, const g2_ids *ids, size_t n,
						 size_t *bytes);

/*
 * The best place to cut text[0..n), above n / 2 where there is one: behind the last empty line,
 * else the last sentence, the last line, the last word, the last character.  It depends on these
 * bytes alone.
 */
extern size_t g2_cut_place(const char *text, size_t n);

/* n, or up to 3 bytes less, so that no character is cut; text goes on behind n. */
extern size_t g2_cut_character(const char *text, size_t n);

/* Without white space at both ends. */
extern g2_span g2_cut_trim(g2_span s);

#endif							/* G2_CUT_H */
