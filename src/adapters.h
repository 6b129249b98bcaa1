/*
 * adapters.h: the adapters that stand on a model, by their folders.
 */
#ifndef GPT2_ADAPTERS_H
#define GPT2_ADAPTERS_H

#include "postgres.h"

typedef struct Gpt2Adapters
{
	int			n;
	char	   *names;			/* of those that the current user may use, and how many others there
								 * are; palloc'd, in the database's encoding */
} Gpt2Adapters;

/* Looks in all directories of gpt2.model_path.  The base's name as the file system has it. */
extern Gpt2Adapters gpt2_adapters_of(const char *base);

#endif							/* GPT2_ADAPTERS_H */
