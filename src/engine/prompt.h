/*
 * prompt.h: the prompt of a GENERATE: its text in the template, cut or in parts where it does not
 * fit into the context.
 */
#ifndef G2_PROMPT_H
#define G2_PROMPT_H

#include "cut.h"

struct g2_request;

/*
 * The helper thread's part: request->ids is the prompt.  A text that is too long is, as the flags
 * say, cut (request->truncated), or in parts (request->split, which has the next of them);
 * otherwise it is 54000.
 */
extern bool g2_prompt_make(struct g2_request *request);

/* 54000: the prompt in request->ids, which has been encoded as a whole, leaves no room for a new
 * token; always false. */
extern bool g2_prompt_too_long(struct g2_request *request);

#endif							/* G2_PROMPT_H */
