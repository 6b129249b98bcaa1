/*
 * labels.h: the prompt that labels continue, out of template, examples and text.
 */
#ifndef G2_LABELS_H
#define G2_LABELS_H

#include "util.h"

struct g2_request;

/* The helper thread's part for a SCORE of labels: ids of the prompt and of each label.  A text that
 * leaves no room for the longest label is cut, at its end unless the flags say otherwise. */
extern bool g2_labels_encode(struct g2_request *request);

#endif							/* G2_LABELS_H */
