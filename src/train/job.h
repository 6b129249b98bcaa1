/*
 * job.h: one training, from its options to the finished folder.
 *
 * Phases: rows (serve.c puts them into the spool), prepare.c (tokenizer, tokens, windows, what the
 * folder has of the base), training.c (steps, evaluations, checkpoints), result.c (the rest of the
 * model's folder), target.c (where it goes).  Each leaves its result in the training's directory,
 * and is passed over when it is there already.
 */
#ifndef G2T_JOB_H
#define G2T_JOB_H

#include <stdatomic.h>

#include "config.h"
#include "curve.h"
#include "json.h"
#include "place.h"
#include "protocol_train.h"
#include "tokenizer.h"
#include "windows.h"

typedef struct g2t_job
{
	const g2_train *options;	/* checked by g2t_job_check */
	g2t_place	place;
	atomic_bool *cancel;
	void		(*notice) (void *arg, g2_level level, const char *message, const char *hint);
	void	   *arg;
	double		checkpoint_seconds;	/* between two checkpoints at least, or longer where they take
									 * long; 0 = one after each step */
	g2_train_progress progress;
	int			progress_fd;

	char		base_hash[65];	/* of the base's content, from g2t_job_hash */

	/* prepare.c */
	g2_arch		arch;
	g2_tokenizer *tokenizer;
	g2_buf		tokenizer_blob;
	uint32_t	end_token;		/* G2_NO_TOKEN = none */
	g2t_data_counts counts;
} g2t_job;

#define G2T_CHECKPOINT_FILE "checkpoint"

/* A string of the options with a NUL, in a static buffer for each of two calls. */
extern const char *g2t_text(g2_span s);

/* Ranges of all options; 22023, 54000, 42602. */
extern bool g2t_job_check(const g2_train *options, g2_error *err);

/* The name of the training's directory: SHA-256 over what makes it the same, the base model's
 * content included, whose own hash is in base; "" = there is none. */
extern bool g2t_job_hash(const g2_train *options, char hex[65], char base[65], g2_error *err);

/* The base is still the one of base_hash, or there is none; 55000. */
extern bool g2t_job_check_base(const g2t_job *job, g2_error *err);

extern void g2t_notice(const g2t_job *job, g2_level level, const char *hint, const char *fmt, ...)
G2_PRINTF(4, 5);
extern bool g2t_job_is_canceled(const g2t_job *job, g2_error *err);

/* Writes the progress file. */
extern void g2t_progress(g2t_job *job, g2_train_phase phase);

/* From now on, durably: when the finished folder of this path has been moved, all is done. */
extern bool g2t_progress_last(g2t_job *job, const char *folder, g2_error *err);

/* place, options, base_hash, cancel and notice are set; the spool is there.  The new model's folder
 * is in `models` when it returns true, and the training's directory is gone. */
extern bool g2t_job_run(g2t_job *job, const char *models, g2_error *err);

/* ---- prepare.c ---- */

/* What is known before rows are read: 0A000 and what is wrong with the base's files; 53200 where not even
 * the smallest vocabulary leaves memory enough. */
extern bool g2t_prepare_check(g2t_job *job, g2_error *err);

/* tokenizer, arch, windows.  53200 where the machine has not the memory to go on. */
extern bool g2t_prepare(g2t_job *job, g2_error *err);

/* Inputs of a window; rows of a pass at most. */
extern uint32_t g2t_window_length(const g2t_job *job);
extern uint32_t g2t_pass_rows(const g2t_job *job);

/* ---- training.c ---- */

typedef struct g2t_outcome
{
	uint32_t	steps;			/* that were to be */
	uint32_t	step;			/* whose weights the model has */
	double		loss;			/* of its last point, NaN: none */
	double		held_out_loss;	/* NaN: none */
	bool		stopped_early;	/* patience */
	bool		not_finite;		/* the loss was no number: the weights are older ones */
	g2t_curve	curve;
} g2t_outcome;

struct g2t_parameters;

/* Trains to the end; p gets the final weights, with adapters merged, or the adapters alone where
 * they are kept.  Opened here, closed by the caller. */
extern bool g2t_train(g2t_job *job, struct g2t_parameters *p, g2t_outcome *outcome,
					  g2_error *err);

/* ---- result.c ---- */

/* A JSON file of the folder; complete: nothing is missing in it for lack of memory. */
extern bool g2t_write_json(const char *folder, const char *name, cJSON *json, bool complete,
						   g2_error *err);

/* The folder, without files: what a process has left there that was killed, or the model that it
 * has replaced. */
extern bool g2t_folder_empty(const g2t_job *job, g2_error *err);

/* Its files but for weights, curve and README.  Here the base's are read, for the only time: it may
 * be another, or gone, when the training is over. */
extern bool g2t_folder_begin(const g2t_job *job, g2_error *err);

/* The other files; then it is moved. */
extern bool g2t_write_model(g2t_job *job, const struct g2t_parameters *p,
							const g2t_outcome *outcome, const char *models, g2_error *err);

/* ---- target.c ---- */

/* `models` is there, and a folder can be moved from the place into it; else 55000, or what forbids
 * it.  Before anything is spent on the model. */
extern bool g2t_target_check(const g2t_place *place, const char *models, g2_error *err);

/* Moves the finished folder there; 55000 when one of that name is there and does not give way. */
extern bool g2t_target_move(const g2t_job *job, const char *folder, const char *models,
							g2_error *err);

#endif							/* G2T_JOB_H */
