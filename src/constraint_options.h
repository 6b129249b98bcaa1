/*
 * constraint_options.h: the options choice, regex and json_schema.
 */
#ifndef GPT2_CONSTRAINT_OPTIONS_H
#define GPT2_CONSTRAINT_OPTIONS_H

#include "options.h"

/* Each sets constraint_kind and constraint.  False: the value is not of the option's type.  Raises
 * 54000 for one of more than G2_MAX_CONSTRAINT bytes. */
extern bool gpt2_read_choice(const JsonbValue *v, Gpt2Options *options);
extern bool gpt2_read_regex(const JsonbValue *v, Gpt2Options *options);
extern bool gpt2_read_json_schema(const JsonbValue *v, Gpt2Options *options);

#endif							/* GPT2_CONSTRAINT_OPTIONS_H */
