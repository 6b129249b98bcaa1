/*
 * decoding.c: options that say how tokens are chosen, beside the arguments: what may not be combined.
 */
#include "compat.h"

#include "decoding.h"
#include "failed_calls.h"

/* 22023: an option, and what it must be. */
static void
bad_option(const char *name, const char *must, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", name, must),
			 errhint("%s", hint)));
}

void
gpt2_resolve_decoding(const Gpt2Options *options, g2_generate *wire)
{
	const g2_decoding *d = &options->decoding;

	wire->decoding = *d;
	if (options->add_start)
		wire->flags |= G2_GEN_ADD_START;
	if (d->min_new > wire->max_new)
		bad_option(options->has_min_new,
				   psprintf("at most %u, the length that was asked for", wire->max_new),
				   "Raise max_len, or lower min_new_tokens.");
	if (d->n_beams <= 1)
	{
		if (options->has_length_penalty)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 gpt2_err_of_options(),
					 errmsg("option \"%s\" has no meaning without beams",
							options->has_length_penalty),
					 errhint("Add \"num_beams\" with 2 or more.")));
		return;
	}
	if (wire->temperature > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 gpt2_err_of_options(),
				 errmsg("option \"%s\" cannot be combined with sampling",
						options->has_num_beams),
				 errhint("Use temperature => 0, or leave num_beams out.")));
	if (wire->n > d->n_beams)
		bad_option(options->has_num_beams, psprintf("at least n, which is %u", wire->n),
				   "A search gives the n best texts of its beams.");
}
