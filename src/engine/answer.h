/*
 * answer.h: how a request is answered: payloads are made here and handed to its owner.
 *
 * An answer is exactly one final message.  Memory of payloads is wiped, since they hold texts.
 */
#ifndef G2_ANSWER_H
#define G2_ANSWER_H

#include "request.h"

/* A writer for a payload; what answers or frees it wipes it. */
extern g2_writer g2_answer_writer(void);
extern void g2_answer_free(g2_writer *w);

/* The payload in w, which is freed.  One that could not be made becomes an error. */
extern void g2_answer(g2_request *request, g2_message type, g2_writer *w);
extern void g2_answer_error(g2_request *request, const g2_error *err);

/* Not final; left out where there is no memory for it. */
extern void g2_answer_notice(g2_request *request, g2_level level, const char *message);

extern void g2_answer_stream(g2_request *request, const g2_stream *token);

/* The payload of MODEL_LIST. */
extern void g2_answer_models(const g2_registry *registry, const g2_backend_api *api, g2_writer *w);

#endif							/* G2_ANSWER_H */
