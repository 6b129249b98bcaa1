/*
 * protocol_train.h: what a backend and gpt2_train say to each other, and the file that shows others
 * how far a training is.  Rules of protocol.h.
 *
 * Transport: the supervisor listens at G2_TRAIN_SOCKET_PATH, accepts, and starts gpt2_train with
 * the connection as its descriptor G2_TRAIN_FD: one process for each training, which ends with it.
 *
 * Conversation: the backend sends HELLO and TRAIN.  The process answers TRAIN_READY, which says
 * whether it wants the rows; then the backend sends ROWS in any number and ROWS_END.  NOTICE may
 * come at any time; DONE or ERROR is the last.  A closed connection stops the training within a
 * step; what is done stays for the same TRAIN to go on from.
 */
#ifndef G2_PROTOCOL_TRAIN_H
#define G2_PROTOCOL_TRAIN_H

#include "protocol.h"

#define G2_TRAIN_PROGRAM "gpt2_train"
#define G2_TRAIN_SOCKET_PATH "pg_stat_tmp/gpt2_train.sock"
#define G2_TRAIN_FD 3
#define G2_TRAIN_PARENT "base/pgsql_tmp_gpt2"
#define G2_TRAIN_DIRECTORY G2_TRAIN_PARENT "/train"
#define G2_TRAIN_MODELS "gpt2_models"	/* where finished models go */
#define G2_TRAIN_GONE ".gone."	/* begins the name of a directory that is being removed */

enum							/* messages; g2_message has those below */
{
	G2_MSG_TRAIN = 96,			/* g2_train -> TRAIN_READY */
	G2_MSG_TRAIN_READY,			/* u32: 1 = send the rows */
	G2_MSG_TRAIN_ROWS,			/* g2_put_row for each, until the payload's end */
	G2_MSG_TRAIN_ROWS_END		/* u64: rows that were NULL */
};

/* Bounds that both sides check. */
#define G2_TRAIN_MAX_LAYERS 64
#define G2_TRAIN_MAX_EMBD 4096
#define G2_TRAIN_MAX_CONTEXT 8192
#define G2_TRAIN_MAX_BATCH (1u << 18)	/* tokens */
#define G2_TRAIN_MAX_STEPS 100000000
#define G2_TRAIN_MAX_RANK 256
#define G2_TRAIN_MAX_EVALUATIONS 100000
/* A tar file, which base backups are, has room for 99 bytes of "gpt2_models/NAME/" and
 * "adapter_model.safetensors". */
#define G2_TRAIN_MAX_NAME 61
#define G2_TRAIN_AUTO UINT32_MAX

/* Whose model of the same name gives way when the new one is finished, which may be long after the
 * backend has looked. */
typedef enum g2_train_replace
{
	G2_TRAIN_REPLACE_NONE,
	G2_TRAIN_REPLACE_OWN,		/* that of `owner`, or of `replaced` */
	G2_TRAIN_REPLACE_ANY		/* a superuser asks */
} g2_train_replace;

/* Numbers are those of the enums of src/train: tokenizer g2t_tokenizer_kind, optimizer g2t_method,
 * schedule g2t_schedule. */
typedef struct g2_train
{
	/* what makes a training the same: all of it is part of its hash */
	g2_span		model;			/* name of the new one */
	g2_span		base;			/* folder of the model to start from; empty = from nothing */
	g2_span		query;
	g2_owner	owner;			/* to whom the model will belong */
	uint32_t	database;		/* OID */
	uint32_t	tokenizer;		/* from nothing only, as the next five */
	uint32_t	vocab_size;		/* 0 = as many as there are */
	uint32_t	n_layer;
	uint32_t	n_head;
	uint32_t	n_embd;
	uint32_t	context;
	uint32_t	lora_rank;		/* 0 = all weights */
	double		lora_alpha;
	uint32_t	steps;			/* 0 = by epochs */
	double		epochs;
	uint32_t	batch_tokens;
	uint32_t	optimizer;
	uint32_t	schedule;
	uint32_t	warmup_steps;	/* G2_TRAIN_AUTO: a tenth of the steps, 100 at most */
	double		learning_rate;
	double		beta1;			/* sgd: momentum */
	double		beta2;
	double		weight_decay;
	double		grad_clip;		/* 0 = none */
	double		dropout;
	double		eval_fraction;
	uint32_t	eval_every;		/* steps; 0 = twenty times in all */
	uint32_t	patience;		/* evaluations without improvement; 0 = no end */
	uint64_t	seed;
	uint32_t	keep_adapter;	/* 1: it is not merged but kept, and shares the base's weights */
	/* how it is done, which changes no bit */
	uint32_t	replace;		/* g2_train_replace */
	g2_owner	replaced;		/* of the model that may be replaced; none = the new one's */
	uint32_t	threads;
	uint32_t	nice;
	uint64_t	memory;			/* bytes of activations beyond which they are computed again */
	uint64_t	keep_free;		/* bytes of the file system that large files leave: these, or a tenth */
	uint32_t	checkpoint_seconds; /* between two checkpoints; 0 = one after each step */
} g2_train;

/* A row: prompt and completion, or a text alone. */
typedef struct g2_train_row
{
	uint32_t	has_prompt;
	g2_span		prompt;
	g2_span		text;
} g2_train_row;

extern void g2_train_encode(g2_writer *w, const g2_train *m);
extern bool g2_train_decode(const void *p, size_t n, g2_train *m);
extern void g2_train_row_encode(g2_writer *w, const g2_train_row *row);

/* The next row of a payload; false at its end, or when it is malformed (r->failed). */
extern bool g2_train_row_get(g2_reader *r, g2_train_row *row);

/* A finished model's curve, a file of its folder. */
#define G2_TRAIN_LOG_FILE "training_log.csv"
#define G2_TRAIN_MAX_LOG (16u << 20)	/* bytes; it has few points more than evaluations */

/* ---- progress ---- */

typedef enum g2_train_phase
{
	G2_TRAIN_READING = 1,		/* rows of the query */
	G2_TRAIN_TOKENIZING,
	G2_TRAIN_STEPS,
	G2_TRAIN_WRITING			/* the finished model */
} g2_train_phase;

#define G2_TRAIN_PROGRESS_FILE "progress"
#define G2_TRAIN_LOCK_FILE "lock"	/* flock'd while the process runs */
#define G2_TRAIN_FOLDER "model"	/* the finished folder, until it is moved */
#define G2_TRAIN_PROGRESS_MAGIC 0x75327067u

/* The file's contents.  A reader that meets a writer sees a wrong sum, and reads again. */
typedef struct g2_train_progress
{
	uint32_t	magic;
	uint32_t	sum;			/* g2_train_progress_sum */
	uint32_t	phase;			/* g2_train_phase */
	uint32_t	pid;			/* of the backend */
	uint32_t	owner_oid;
	uint32_t	database;
	uint64_t	rows;
	uint32_t	step;
	uint32_t	steps;
	double		loss;			/* of the last step; NaN = none yet, as the next */
	double		held_out_loss;
	double		tokens_per_second;
	uint64_t	tokens;
	int64_t		started_us;		/* Unix time */
	int64_t		updated_us;
	uint64_t	folder;			/* inode of the finished folder that is to be moved; 0 = none yet */
	char		model[256];		/* ends with NUL */
} g2_train_progress;

extern uint32_t g2_train_progress_sum(const g2_train_progress *p);

/* Whether the file's bytes are whole. */
extern bool g2_train_progress_is_whole(const g2_train_progress *p);

/* The finished folder has gone to where models are, whatever else is left in the training's
 * directory. */
extern bool g2_train_is_done(const char *directory, const g2_train_progress *p);

#endif							/* G2_PROTOCOL_TRAIN_H */
